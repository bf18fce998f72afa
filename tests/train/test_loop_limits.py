"""How long a loop is: epochs, steps, minutes, samples, tokens, and what is known of it beforehand."""

from __future__ import annotations

import pytest
import torch
from small import loader, make, train, turn

from loopwright.errors import DataError, UsageError
from loopwright.train.limits import Limits


def shape(steps) -> list[tuple[int, int, bool, bool]]:
    """What a loop's steps say of themselves."""
    return [(s.index, s.epoch, s.ends_epoch, s.ends_run) for s in steps]


def test_epochs():
    """Epochs are passes over the loader; index counts on, epoch counts from 0."""
    steps = train(make(), loader(samples=6, batch_size=2), epochs=2)
    assert shape(steps) == [
        (0, 0, False, False),
        (1, 0, False, False),
        (2, 0, True, False),
        (3, 1, False, False),
        (4, 1, False, False),
        (5, 1, True, True),
    ]


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 12, 13])
def test_steps(steps):
    """Steps are turns, over as many epochs as it takes; the last one is known as such."""
    made = train(make(), loader(), steps=steps)  # six batches an epoch
    assert len(made) == steps
    assert [s.ends_run for s in made] == [False] * (steps - 1) + [True]
    assert [s.ends_epoch for s in made] == [(i + 1) % 6 == 0 for i in range(steps)]


def test_samples():
    """Samples are first dimensions added up; the turn that reaches the number is the last."""
    steps = train(make(), loader(samples=10, batch_size=4), samples=15)
    assert [len(s.batch[0]) for s in steps] == [4, 4, 2, 4, 4]
    assert [s.ends_run for s in steps] == [False] * 4 + [True]


def test_tokens():
    """Tokens are the elements of the first two-dimensional integer tensor of each batch."""
    batches = [{"weight": torch.ones(2), "ids": torch.zeros(2, width, dtype=torch.long)}
               for width in (3, 5, 4)]  # fmt: skip
    run = make()
    seen = [step.batch["ids"].numel() for step in run.loop(batches, tokens=17)]
    assert seen == [6, 10, 8]
    assert run.totals["tokens"] == 24


def test_tokens_need_tokens():
    """A batch without an integer tensor of two dimensions cannot be counted in tokens."""
    with pytest.raises(DataError) as caught:
        train(make(), loader(), tokens=10)
    assert caught.value.slug == "no-tokens"


def test_minutes(monkeypatch):
    """Minutes are wall-clock time; the turn that begins after them is the last."""
    import loopwright.train.loop as module

    clock = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: clock[0])
    run = make()
    ends = []
    for step in run.loop(loader(), minutes=1):
        turn(run, step)
        clock[0] += 25.0
        ends.append(step.ends_run)
    assert ends == [False, False, False, True]


@pytest.mark.parametrize(
    ("limits", "turns"),
    [
        ({"epochs": 2, "steps": 5}, 5),
        ({"epochs": 1, "steps": 50}, 6),
        ({"epochs": 3, "samples": 9}, 3),
        ({"steps": 2, "samples": 9}, 2),
        ({"steps": 4, "minutes": 60.0}, 4),
    ],
)
def test_first_limit_ends(limits, turns):
    """Of several limits the first one that is reached ends the loop."""
    assert len(train(make(), loader(), **limits)) == turns


@pytest.mark.parametrize(
    ("limits", "length"),
    [({"epochs": 2}, 12), ({"steps": 7}, 7), ({"epochs": 2, "steps": 7}, 7)],
)
def test_len(limits, length):
    """The loop's len() is its number of turns where that is known."""
    assert len(make().loop(loader(), **limits)) == length


@pytest.mark.parametrize("limits", [{"samples": 10}, {"minutes": 1}, {"tokens": 3}])
def test_len_unknown(limits):
    """A loop whose turns cannot be known has no len()."""
    loop = make().loop(loader(), **limits)
    with pytest.raises(TypeError, match="not known"):
        len(loop)


def test_len_unsized():
    """Epochs of an unsized loader have no len(), steps have."""
    run = make()
    with pytest.raises(TypeError, match="not known"):
        len(run.loop(lambda: iter([]), epochs=2))
    assert len(run.loop(lambda: iter([]), steps=2)) == 2


def test_ends_known_beforehand_unsized():
    """ends_epoch and ends_run are known before the body also where only the end itself tells."""
    batches = list(loader(samples=6, batch_size=2))
    steps = train(make(), lambda: iter(batches), epochs=2)
    assert [s.ends_epoch for s in steps] == [False, False, True] * 2
    assert [s.ends_run for s in steps] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("accumulate", "limits", "updates"),
    [
        (1, {"epochs": 1}, [1, 1, 1, 1, 1, 1]),
        (2, {"epochs": 1}, [0, 1, 0, 1, 0, 1]),
        (4, {"epochs": 2}, [0, 0, 0, 1, 0, 1] * 2),
        (4, {"steps": 9}, [0, 0, 0, 1, 0, 1, 0, 0, 1]),
        (3, {"samples": 14}, [0, 0, 1, 1]),
    ],
)
def test_updates_known_beforehand(accumulate, limits, updates):
    """step.updates says before the body whether update() will step, short last windows included."""
    run = make(accumulate=accumulate)
    seen, stepped = [], []
    for step in run.loop(loader(), **limits):
        seen.append(int(step.updates))
        before = run.model.weight.detach().clone()
        turn(run, step)
        stepped.append(int(not torch.equal(before, run.model.weight)))
    assert seen == updates == stepped
    assert run.totals["updates"] == sum(updates)


def test_skipped_batch_moves_the_window():
    """A batch that was skipped on purpose counts for no window."""
    run = make(accumulate=2)
    seen = []
    for step in run.loop(loader(), epochs=1):
        seen.append(step.updates)
        if step.index != 1:
            turn(run, step)
    assert seen == [False, True, True, False, True, True]
    assert (run.totals["skipped"], run.totals["updates"]) == (1, 3)


def test_no_limit():
    """A loop without an end is refused, with the ways to say one."""
    with pytest.raises(UsageError) as caught:
        make().loop(loader())
    assert caught.value.slug == "no-limit"
    assert "epochs=" in caught.value.hint


@pytest.mark.parametrize(
    "limits",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"epochs": True},
        {"epochs": "3"},
        {"steps": 0},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"minutes": 0},
        {"samples": 2.0},
        {"tokens": -5},
    ],
)
def test_limit_out_of_range(limits):
    """A limit that is no number above 0 is refused before anything runs."""
    with pytest.raises(UsageError) as caught:
        make().loop(loader(), **limits)
    assert caught.value.slug == "limit-out-of-range"
    assert next(iter(limits)) in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "batches", "accumulate", "updates", "epochs"),
    [
        (Limits(epochs=3), 5, 2, 9, 3),
        (Limits(steps=7), 5, 2, 4, 2),
        (Limits(steps=7), None, 2, 4, None),
        (Limits(epochs=3), None, 2, None, 3),
        (Limits(minutes=1.0), 5, 1, None, None),
        (Limits(epochs=2, steps=100), 5, 1, 10, 2),
    ],
)
def test_lengths_for_schedules(limits, batches, accumulate, updates, epochs):
    """Updates and epochs of a loop, which shape a schedule, are known where they can be."""
    assert limits.updates(batches, accumulate) == updates
    assert limits.whole_epochs(batches) == epochs
