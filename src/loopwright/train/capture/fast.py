"""Whether a step is compiled: only where what is left to train pays for it, and only what is faster.

The exact graphs come first and are what a compiled one is measured against. It is compiled when the time
that it is expected to save is more than compiling is expected to take; both are tried on real turns, in
turn, and the faster one stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.capture.compiled import Compiled
from loopwright.train.capture.record import Operation, Refused

if TYPE_CHECKING:
    from loopwright.train.run import Run

WATCHED = 20
"""Turns by the exact graphs whose time is taken before it is decided."""
TRIED = 20
"""Turns by each of the two, alternately."""
SECONDS, SECONDS_PER_OPERATION = 3.0, 0.08
"""What compiling takes: 4 to 15 s for steps of 30 to 150 operations on two cores."""
SAVED = 0.4
"""Share of a step's time that it is expected to save: a step gets 1.1 to 2 times as fast as exact's."""


class Fast:
    """The compiled graph of one batch shape, from the decision on.

    Attributes:
        graph: once compiled; None before, and where it was given up.
        chosen: whether turns are run by it.
    """

    def __init__(self, run: Run):
        self.graph: Compiled | None = None
        self.chosen = False
        self._run = run
        self._recorded: tuple[Any, ...] | None = None
        self._operations = 0
        self._exact: list[float] = []
        self._compiled: list[float] = []
        self._seconds = 0.0

    def keep(
        self,
        forward: Sequence[Operation],
        update: Sequence[Operation],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        count: int,
    ) -> None:
        """Take a recording; it is held until it is decided."""
        self._recorded = (forward, update, inputs, outputs, count)
        self._operations = len(forward) + len(update)

    @property
    def due(self) -> bool:
        """Whether enough turns were timed to decide."""
        return self._recorded is not None and len(self._exact) >= WATCHED

    def decide(self) -> None:
        """Compile if it pays; notes say which."""
        assert self._recorded is not None
        recorded, self._recorded = self._recorded, None
        turn = median(self._exact)
        left = turns_left(self._run)
        cost = SECONDS + SECONDS_PER_OPERATION * self._operations
        if left is not None and left * turn * SAVED < cost:
            self._run.note(
                f"steps are captured exactly and not compiled: {left} turns of {turn * 1e3:.2f} ms are "
                f"left, too few to pay for about {cost:.0f} s of compiling (it would from "
                f"{math.ceil(cost / (turn * SAVED))} on)"
            )
            return
        started = perf_counter()
        try:
            self.graph = Compiled(*recorded)
        except Refused as refused:
            self._run.note(f"steps are captured exactly and not compiled: {refused}")
            return
        self._seconds = perf_counter() - started
        self._exact.clear()
        self.chosen = True

    def took(self, seconds: float) -> None:
        """Take the time of a replayed turn; decide which of the two is faster once both were tried."""
        if self.graph is None:
            if self._recorded is not None:
                self._exact.append(seconds)
            return
        if len(self._exact) >= TRIED:
            return
        (self._compiled if self.chosen else self._exact).append(seconds)
        self.chosen = not self.chosen
        if min(len(self._exact), len(self._compiled)) < TRIED:
            return
        exact, compiled = median(self._exact), median(self._compiled)
        self.chosen = compiled < exact
        if self.chosen:
            pays = math.ceil(self._seconds / (exact - compiled))
            verdict = f"used; compiling took {self._seconds:.1f} s, which {pays} turns make good"
        else:
            self.graph, verdict = None, "not used"
        self._run.note(
            f"the compiled step takes {compiled * 1e3:.2f} ms instead of {exact * 1e3:.2f} ms: {verdict}"
        )

    def give_up(self, why: str) -> None:
        """Go on with the exact graphs."""
        self.graph, self.chosen = None, False
        self._run.note(f"the compiled step is not used: {why}")


def turns_left(run: Run) -> int | None:
    """Return how many turns the loop has left, None where that is not known."""
    loop = run.active
    assert loop is not None
    turns = loop.limits.turns(loop.source.length)
    return None if turns is None else turns - loop.turn


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two losses are the same but for rounding."""
    return bool(torch.isclose(one.double(), other.double(), rtol=1e-2, atol=1e-5))
