"""Whether a step rounds otherwise: only what is faster, and what is compiled only where that pays.

The exact graphs come first and are what the others are measured against. A step is compiled when the time
that it is expected to save is more than compiling is expected to take; each is tried on real turns, in
turn with the best so far, and the faster one stays.
"""

from __future__ import annotations

import math
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loopwright.train.capture.compiled import Compiled
from loopwright.train.capture.record import Recorded, Refused
from loopwright.train.capture.widened import Widened, widened

if TYPE_CHECKING:
    from loopwright.train.run import Run

WATCHED = 20
"""Turns by the exact graphs whose time is taken before it is decided."""
TRIED = 20
"""Turns by each of the two, alternately."""
WIDENED_TRIED = 5
"""The same, where operations were timed before."""
SECONDS, SECONDS_PER_OPERATION = 3.0, 0.08
"""What compiling takes: 4 to 15 s for steps of 30 to 150 operations on two cores."""
SAVED = 0.4
"""Share of a step's time that it is expected to save: a step gets 1.1 to 2 times as fast as exact's."""


class Fast:
    """What a batch shape's turns are replayed by, from the first decision on.

    Two graphs are tried, each against the best so far: the recorded one with those of its operations in fp32
    that are faster so, which takes the time of some turns to make, and a compiled one.
    """

    def __init__(self, run: Run):
        self._run = run
        self._recorded: Recorded | None = None
        self._candidate: Recorded | None = None  # what stands in its place if the trial is won
        self._best: Widened | Compiled | None = None  # None for the exact graphs
        self._trial: Widened | Compiled | None = None
        self._on_trial = False
        self._best_name = self._trial_name = ""
        self._begun = False
        self._exact: list[float] = []  # seconds of turns by the best so far
        self._tried: list[float] = []
        self._tries = TRIED
        self._seconds = 0.0

    @property
    def graph(self) -> Widened | Compiled | None:
        """What the next turn is run by; None for the exact graphs."""
        return self._trial if self._on_trial else self._best

    @property
    def chosen(self) -> bool:
        """Whether the next turn rounds otherwise."""
        return self.graph is not None

    def keep(self, recorded: Recorded) -> None:
        """Take a recording; it is held until all is decided."""
        self._recorded = recorded

    @property
    def due(self) -> bool:
        """Whether enough turns were timed for the next decision."""
        if self._recorded is None or self._trial is not None:
            return False
        return len(self._exact) >= (WATCHED if self._begun else 1)

    def decide(self) -> bool:
        """Make the next graph if it pays; notes say so where not. Returns whether one is to be tried."""
        assert self._recorded is not None
        if not self._begun:
            self._begun = True
            self._widen(self._recorded)
        else:
            recorded, self._recorded = self._recorded, None
            self._compile(recorded)
        return self._trial is not None

    def _widen(self, recorded: Recorded) -> None:
        forward, found = widened(recorded.forward)
        if not found:
            return
        which = ", ".join(
            f"{name.lstrip('_')} ({times:.1f} times as fast as in bf16)"
            for name, times in found.items()
        )
        candidate = recorded._replace(forward=forward)
        try:
            graph = Widened(candidate)
        except Refused as refused:
            self._run.note(f"steps are captured with {which} in bf16: {refused}")
            return
        self._candidate = candidate
        self._try(graph, f"the step with {which} in fp32", WIDENED_TRIED)

    def _compile(self, recorded: Recorded) -> None:
        turn = median(self._exact)
        left = turns_left(self._run)
        cost = SECONDS + SECONDS_PER_OPERATION * (len(recorded.forward) + len(recorded.update))
        if left is not None and left * turn * SAVED < cost:
            self._run.note(
                f"steps are captured{self._exactly} and not compiled: {left} turns of {turn * 1e3:.2f} ms "
                f"are left, too few to pay for about {cost:.0f} s of compiling (it would from "
                f"{math.ceil(cost / (turn * SAVED))} on)"
            )
            return
        started = perf_counter()
        try:
            graph = Compiled(recorded)
        except Refused as refused:
            self._run.note(f"steps are captured{self._exactly} and not compiled: {refused}")
            return
        self._try(graph, "the compiled step", TRIED)
        self._seconds = perf_counter() - started

    @property
    def _exactly(self) -> str:
        return " exactly" if self._best is None else ""

    def _try(self, graph: Widened | Compiled, name: str, tries: int) -> None:
        self._trial, self._trial_name, self._tries = graph, name, tries
        self._on_trial = True
        self._exact.clear()

    def took(self, seconds: float) -> None:
        """Take the time of a replayed turn; decide which of the two is faster once both were tried."""
        if self._trial is None:
            if self._recorded is not None:
                self._exact.append(seconds)
            return
        (self._tried if self._on_trial else self._exact).append(seconds)
        self._on_trial = not self._on_trial
        if min(len(self._exact), len(self._tried)) < self._tries:
            return
        before, after = median(self._exact), median(self._tried)
        verdict = "not used"
        if after < before:
            self._best, self._best_name, verdict = self._trial, self._trial_name, "used"
            if self._candidate is not None:
                self._recorded = self._candidate
            if isinstance(self._trial, Compiled):
                pays = math.ceil(self._seconds / (before - after))
                verdict = (
                    f"used; compiling took {self._seconds:.1f} s, which {pays} turns make good"
                )
        self._end_trial()
        self._run.note(
            f"{self._trial_name} takes {after * 1e3:.2f} ms instead of {before * 1e3:.2f} ms: {verdict}"
        )

    def _end_trial(self) -> None:
        self._trial, self._candidate, self._on_trial = None, None, False
        self._exact.clear()
        self._tried.clear()

    def give_up(self, why: str) -> None:
        """Go on without the graph that the next turn is run by."""
        name = self._trial_name if self._on_trial else self._best_name
        if self._on_trial:
            self._end_trial()
        else:
            self._best = None
        self._run.note(f"{name} is not used: {why}")


def turns_left(run: Run) -> int | None:
    """Return how many turns the loop has left, None where that is not known."""
    loop = run.active
    assert loop is not None
    turns = loop.limits.turns(loop.source.length)
    return None if turns is None else turns - loop.turn


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two losses are the same but for rounding."""
    return bool(torch.isclose(one.double(), other.double(), rtol=1e-2, atol=1e-5))
