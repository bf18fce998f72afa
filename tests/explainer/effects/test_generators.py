"""Draws, seeds and states that are put back are told apart, for each generator of the process."""

from __future__ import annotations

import random

import numpy as np
import torch

from explainer.recorded import recorded_here, said


def told(train, text):
    """What is said of generators on the line that holds ``text``."""
    words = ("generator", "`random`")
    lines = [one for one in said(recorded_here(train, steps=1, timed=0)) if text in one]
    return [one.partition(" | ")[2] for one in lines if any(word in one for word in words)]


def learns(weight):
    """One backward pass."""
    (weight * 2).sum().backward()


def test_seeding_is_no_draw():
    """Of each generator, its seed; and the draws after it."""

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            random.seed(3)
            np.random.seed(4)  # noqa: NPY002
            torch.manual_seed(5)
            a = random.random()
            b = np.random.rand(624 * 3)  # noqa: NPY002
            c = torch.rand(2)
            learns(weight)
        return a, b, c

    assert told(train, "random.seed(3)") == [
        "Python's `random` starts from seed 3: the same draws every time."
    ]
    assert told(train, "np.random.seed(4)") == [
        "numpy's generator starts from seed 4: the same draws every time."
    ]
    assert told(train, "torch.manual_seed(5)") == [
        "torch's generator starts from seed 5: the same draws every time."
    ]
    assert told(train, "a = ") == ["It draws from Python's `random`."]
    assert told(train, "b = ") == ["It draws from numpy's generator."]
    assert told(train, "c = ") == ["It draws from torch's generator."]


def test_seeds_and_draws_of_one_statement():
    """Both are said: a draw before the seed, and one after it, are draws; a seed alone is none."""

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            first_drawn = random.random(), random.seed(1)
            then_drawn = random.seed(2), random.random()
            own = random.Random(7)
            learns(weight)
        return first_drawn, then_drawn, own

    for text in ("first_drawn", "then_drawn"):
        seeded, drawn = told(train, text)
        assert "starts from seed" in seeded
        assert drawn == "It draws from Python's `random`."
    assert told(train, "own = ") == []


def test_a_state_that_is_put_back():
    """By a call, or by torch's own ``fork_rng``; what is drawn from there is drawn."""

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            kept = random.getstate()
            random.random()
            random.setstate(kept)
            with torch.random.fork_rng():
                torch.rand(3)  # inside
            torch.rand(3)  # after it
            learns(weight)

    assert told(train, "random.setstate(kept)") == [
        "Python's `random` is set to the state that it is given."
    ]
    assert told(train, "fork_rng") == [
        "torch's generator is put back to an earlier state: the same draws come again."
    ]
    for text in ("# inside", "# after it"):
        assert told(train, text) == ["It draws from torch's generator."]


def test_a_seed_of_the_system():
    """It gives other draws every time, and the sentence says so."""

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            random.seed()
            learns(weight)

    assert told(train, "random.seed()") == [
        "Python's `random` starts from a seed of the system's: other draws every time."
    ]


def test_everything_is_put_back():
    """The functions are the program's own again, and the numbers are those of a plain run."""
    before = random.seed.__func__.__code__, np.random.seed, torch.seed.__code__

    def train():
        random.seed(0)
        return [random.random() for _ in range(3)]

    recorded_here(train)
    assert (random.seed.__func__.__code__, np.random.seed, torch.seed.__code__) == before
    alone = train()
    found = []
    recorded_here(lambda: found.extend(train()))
    assert found == alone


def test_a_seed_that_no_call_is_known_of():
    """``from numpy.random import seed`` before anything was observed; a seed is seen by what it makes."""
    seed = np.random.mtrand._rand.seed

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            seed(11)
            a = np.random.rand(312)  # noqa: NPY002  all 624 words, so that the next draw begins anew
            seed([1, 2])
            learns(weight)
        return a

    said_of = "numpy's generator starts from seed 11: the same draws every time."
    assert told(train, "seed(11)") == [said_of]
    assert told(train, "a = ") == ["It draws from numpy's generator."]
