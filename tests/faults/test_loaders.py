"""Every kind of loader, killed inside its second epoch and at an epoch's boundary: the same bits."""

from __future__ import annotations

import drawn
import pytest
from bench import Kill, problem

SETTINGS = {
    **drawn.REPRESENTATIVE, "optimizer": "sgd", "schedule": "none", "ema": False, "accumulate": 1,
    "clip": None, "validation": "none", "augment": "torch",
}  # fmt: skip
LOADERS = drawn.PRODUCT["loader"]
# The save after turn 15 has waited for the one after turn 12: four batches or more of the second epoch.
INSIDE = Kill("mark", place="body", after=15)


def killed(case, whole, settings, kill):
    """What is wrong after one kill; a word that other batches may come is wrong as well."""
    one = case(settings)
    assert kill.run(one).killed
    ending = one.run()
    return (
        problem(one, ending, whole(settings))
        or ("[other-order]" in ending.result.err) * ending.result.err
    )


@pytest.mark.parametrize("loader", LOADERS)
def test_in_the_main_process(case, whole, loader):
    """Data that are loaded in the main process go on inside an epoch."""
    assert killed(case, whole, {**SETTINGS, "loader": loader}, INSIDE) == ""


QUICK = ("shuffled", "stateful", "stream")
"""Loaders whose tests with workers are quick ones; the others' are long."""


@pytest.mark.parametrize(
    "loader",
    [
        pytest.param(one, marks=() if one in QUICK else pytest.mark.long)
        for one in LOADERS
        if one != "function"
    ],
)
def test_with_workers(case, whole, loader):
    """Data from two workers, which draw from generators of their own, go on inside an epoch."""
    assert killed(case, whole, {**SETTINGS, "loader": loader, "workers": 2}, INSIDE) == ""


def test_three_workers(case, whole):
    """The next batch is that worker's whose turn it is: the saves after 12 and 15 turns are at 1 of 3."""
    assert killed(case, whole, {**SETTINGS, "loader": "shuffled", "workers": 3}, INSIDE) == ""


@pytest.mark.parametrize(
    ("loader", "augment"),
    [("shuffled", "random"), ("lazy sampler", "torch"), ("stateful", "numpy"), ("stream", "numpy")],
)
def test_persistent_workers(case, whole, loader, augment):
    """Workers that live as long as the loader go on where they were, whatever they draw from."""
    settings = {**SETTINGS, "loader": loader, "augment": augment, "workers": 2, "persistent": True}
    assert killed(case, whole, settings, INSIDE) == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("loader", "persistent"),
    [("shuffled with generator", True), ("stateful", False), ("stream", True)],
)
def test_at_a_boundary(case, whole, loader, persistent):
    """From the checkpoint between two epochs the next begins as it would have."""
    settings = {
        **SETTINGS, "loader": loader, "workers": 2, "persistent": persistent, "checkpoint": "epochs",
        "limits": {"epochs": 3},
    }  # fmt: skip
    # The save after the second epoch, of 8 turns each, has waited for the one after the first.
    assert killed(case, whole, settings, Kill("mark", place="body", after=19)) == ""


@pytest.mark.long
@pytest.mark.parametrize("limits", [{"steps": 13}, {"samples": 45}], ids=["steps", "samples"])
@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize("loader", ["weighted", "stateful"])
def test_a_loop_that_ended_inside_an_epoch(case, whole, loader, limits, persistent):
    """The loop after one that ended inside an epoch trains on the data that it would have had."""
    settings = {
        **SETTINGS, "shape": "fine-tuning", "workers": 2, "persistent": persistent, "limits": limits,
        "loader": loader,
    }  # fmt: skip
    assert killed(case, whole, settings, Kill("mark", place="between loops", after=11)) == ""


@pytest.mark.parametrize(
    "loader",
    [
        pytest.param(one, marks=() if one == "stateful" else pytest.mark.long)
        for one in LOADERS
        if one != "function"
    ],
)
@pytest.mark.parametrize(
    ("shape", "after"),
    [
        pytest.param("fine-tuning", 27, id="fine-tuning"),
        pytest.param("two loops", 15, id="two loops", marks=pytest.mark.long),
    ],
)
def test_the_second_loop_of_persistent_workers(case, whole, loader, shape, after):
    """Workers that an ended loop left go on in the next one's first epoch, killed there and in resuming."""
    settings = {
        **SETTINGS, "shape": shape, "loader": loader, "augment": "random", "workers": 2,
        "persistent": True, "limits": {"epochs": 3}, "checkpoint": "ends",
    }  # fmt: skip
    one = case(settings)
    assert Kill("mark", place="body", after=after).run(one).killed
    assert Kill("place", place="start").run(one).killed
    ending = one.run()
    assert problem(one, ending, whole(settings)) == ""
    assert "[other-order]" not in ending.result.err
