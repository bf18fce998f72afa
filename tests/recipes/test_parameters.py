"""Recipe parameters: types from the signature, help from the docstring, bounds by name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

import pytest

from loopwright.cli.loop_settings import LoopSettings
from loopwright.errors import UsageError
from loopwright.recipes.parameters import (
    LOOP_SETTINGS,
    Parameter,
    accepts,
    read_argument_help,
    read_parameters,
    spell,
)


def test_types_defaults_and_help_are_read():
    """A parameter has the resolved type, the default, and its lines of the docstring."""

    def mine(data: Path, lr: float = 1, mode: Literal["a", "b"] = "a", top: int | None = None):
        """Train.

        Args:
            data: where it lies,
                as a folder.
            lr (float): step size: in weights.
            mode: one of two.

        Returns:
            top: nothing of this is about a parameter.
        """

    data, lr, mode, top = read_parameters(mine, "mine.py:1")
    assert data == Parameter("data", Path, None, True, "where it lies, as a folder.")
    assert (lr.annotation, lr.default, lr.help) == (float, 1, "step size: in weights.")
    assert (mode.type_name, mode.help) == ("Literal['a', 'b']", "one of two.")
    assert (top.type_name, top.required, top.help) == ("int | None", False, "")


def no_type(lr=0.1):
    """Lack a type."""


def no_flag(table: dict = {}):  # noqa: B006
    """Take what no flag can hold."""


def variadic(*numbers: int):
    """Take any number of arguments."""


def loop_name(epochs: int = 3):
    """Use a name of the loop's."""


def wrong_default(hidden: int = 0.5):
    """Say int and mean float."""


def unknown_type(lr: Flaot = 0.1):  # noqa: F821
    """Misspell a type."""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_type, "'lr' has no type"),
        (no_flag, "no flag can hold"),
        (variadic, "cannot be a flag"),
        (loop_name, "a setting that the loop owns"),
        (wrong_default, "default is 0.5"),
        (unknown_type, "Flaot"),
    ],
)
def test_what_cannot_be_a_flag_is_refused(function, says):
    """A signature that cannot become flags is an error with the place and what to write."""
    with pytest.raises(UsageError, match=says) as caught:
        read_parameters(function, "mine.py:7")
    assert str(caught.value).startswith("mine.py:7")


def test_every_loop_setting_is_reserved():
    """No recipe can take a name that is a flag of the loop."""
    assert {field.name for field in fields(LoopSettings)} <= LOOP_SETTINGS


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, 3, 3.0),
        (int, 0, True),
        (float, 3, "3"),
        (bool, True, 1),
        (Path, "a/b", 3),
        (str, "a", None),
        (int | None, None, "x"),
        (Literal["a", 1], 1, "b"),
        (list[int], [1, 2], [1, "b"]),
        (tuple[int, ...], (), ("a",)),
        (tuple[int, str], (1, "a"), (1,)),
    ],
)
def test_values_are_checked_by_type(annotation, good, bad):
    """A value of the annotated type is accepted, another is not."""
    assert accepts(annotation, good)
    assert not accepts(annotation, bad)


@pytest.mark.parametrize(
    ("name", "annotation", "value"),
    [
        ("lr", float, 0.0),
        ("lr", float, float("nan")),
        ("anything", float, float("inf")),
        ("batch_size", int, 0),
        ("seed", int, -1),
        ("dropout", float, 1.0),
        ("weight_decay", float, -0.1),
    ],
)
def test_values_out_of_range_are_refused(name, annotation, value):
    """Names with a fixed meaning have bounds, and no number may be nan or infinite."""
    with pytest.raises(UsageError, match=f"{name}={value}"):
        Parameter(name, annotation, None, True, "").check(value)


def test_bare_docstrings_have_no_help():
    """A docstring without a section about arguments is no error."""
    assert read_argument_help("Train.") == {}
    assert spell(str) == "str"
