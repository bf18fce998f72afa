"""The loop's settings: their texts are understood before anything is imported."""

from __future__ import annotations

import pytest

from loopwright.cli.loop_settings import LoopSettings, loop_flags
from loopwright.errors import UsageError
from loopwright.recipes.parameters import LOOP_SETTINGS


def test_a_recipe_may_not_take_their_names():
    """Every flag of the loop is refused as a recipe's parameter (``seed`` belongs to both)."""
    assert {flag.name for flag in loop_flags()} <= LOOP_SETTINGS
    assert "seed" not in LOOP_SETTINGS


def test_every_flag_is_explained():
    """Each flag has a group and one sentence of help."""
    for flag in loop_flags():
        assert flag.group
        assert flag.help.endswith(".") or flag.name == "out", flag.name


def test_length():
    """The lengths that were given, together: the first that is reached ends the run."""
    assert LoopSettings().length() == {}
    assert LoopSettings(epochs=3, minutes=0.5).length() == {"epochs": 3, "minutes": 0.5}


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("500", (500, "steps")),
        ("500steps", (500, "steps")),
        ("1 step", (1, "steps")),
        ("2epochs", (2, "epochs")),
        ("10min", (10, "minutes")),
        ("0.5minutes", (0.5, "minutes")),
    ],
)
def test_interval(text, interval):
    """--checkpoint-every counts steps, epochs or minutes."""
    assert LoopSettings(checkpoint_every=text).interval() == interval


@pytest.mark.parametrize("text", ["", "often", "0", "1.5", "2.5epochs", "-3", "10h", "nan", "..1"])
def test_bad_interval(text):
    """Anything else is refused with examples."""
    with pytest.raises(UsageError, match="--checkpoint-every takes an interval"):
        LoopSettings(checkpoint_every=text)


def test_window():
    """--profile is a window of steps."""
    assert LoopSettings(profile="0:3").window() == "0:3"
    for text in ("10", "20:10", "3:3", "a:b", "1:2:3"):
        with pytest.raises(UsageError, match="--profile takes two step numbers"):
            LoopSettings(profile=text)


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("valid_accuracy", ("valid_accuracy", "max")),
        ("valid_loss", ("valid_loss", "min")),
        ("valid_rmse", ("valid_rmse", "min")),
        ("valid_r2:max", ("valid_r2", "max")),
        ("score:min", ("score", "min")),
    ],
)
def test_best(text, best):
    """--keep-best is a value's name and which way is better; losses and errors are best when small."""
    assert LoopSettings(keep_best=text).best() == best


def test_bad_best():
    """A direction that is neither max nor min is refused."""
    for text in (":max", "x:up", ""):
        with pytest.raises(UsageError, match="--keep-best takes the name of a value"):
            LoopSettings(keep_best=text)


def test_limit():
    """--clip is a global norm, or a norm or value by name."""
    assert LoopSettings(clip="1").limit() == 1.0
    assert LoopSettings(clip="value:0.5").limit() == "value:0.5"
    for text in ("0", "-1", "nan", "inf", "big", "max:3", "value:", ""):
        with pytest.raises(UsageError, match="--clip takes a number above 0"):
            LoopSettings(clip=text)


def test_one_trial_at_a_time():
    """Two trials at once are refused."""
    with pytest.raises(UsageError, match="--dry-run and --lr-range-test are both given"):
        LoopSettings(dry_run=True, lr_range_test=True)
    with pytest.raises(UsageError, match="--dry-run and --nproc are both given"):
        LoopSettings(dry_run=True, nproc=2)
