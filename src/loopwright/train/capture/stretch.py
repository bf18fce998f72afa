"""Turns between which nothing is to be done: ``lw.fit`` lets them be replayed in one call.

A stretch is made of turns like one that was recorded, as far as their batches are there and none of them is
to be compared with the step as it stands, validates, ends an epoch or the loop, or is followed by a
checkpoint (but the last). It begins with a copy of all that a turn changes: where a loss or a gradient is not
finite everything is put back, and the same turns are made one by one, where it is known what to do.
"""

from __future__ import annotations

import copy
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from loopwright.train.capture.several import Several
from loopwright.train.capture.state import Options, State
from loopwright.train.data.batches import count_samples

if TYPE_CHECKING:
    from loopwright.train.capture.step import CapturedStep
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run

MOST, LONGEST = 64, 0.5
"""Turns of a stretch, and seconds: no signal is looked at between them."""


class Replayed(Protocol):
    """What is recorded for one batch shape.

    Attributes:
        several: makes turns in one call; None where that cannot be.
    """

    several: Several | None

    def room(self, epoch: int) -> int:
        """Return how many turns of an epoch may be replayed before one is to be run both ways."""

    def has_its_options(self) -> bool:
        """Whether the optimizer's options are those that were recorded."""

    def numbers(self, ahead: int) -> list[float]:
        """Return what an update to come is made with, the first group's learning rate first."""

    def foresees(self, numbers: list[float], before: list[float] | None) -> bool:
        """Whether an update with these numbers, after one with ``before``, may be replayed unseen."""

    def stands_still(self) -> bool:
        """Whether all updates have the same numbers as long as nobody changes the groups."""

    def weight_of(self, batch: Any) -> Any:
        """Return the weight of a batch's loss."""

    def stretched(self, rows: list[list[float]]) -> None:
        """Do what follows the updates of several turns."""


class Stretches:
    """Makes those turns of a loop that its body need not see.

    Args:
        step: what replays single turns.
        every: the body has something else to do after each so many turns; None for never.
    """

    def __init__(self, step: CapturedStep, every: int | None = None):
        self._step = step
        self._every = every
        self._singly_until = 0
        self._each: float | None = None  # seconds of a turn, in the last stretch

    def made(self, loop: Loop) -> bool:
        """Make some turns of ``loop``; False where the next one has to be made by its body."""
        step = self._step
        if step.why_not is not None or not step.begun or loop.turn < self._singly_until:
            return False
        most = self._most(loop)
        batches = loop.coming()[:most] if most > 1 else []
        shape = self._step.known_shape(batches[0]) if len(batches) > 1 else None
        if shape is None or shape.several is None or not shape.has_its_options():
            return False
        return self._make(loop, shape, batches[: shape.room(loop.epoch)])

    def _most(self, loop: Loop) -> int:
        """Return how many turns may go by before the loop, or its body, has something to do."""
        run, limits, length = loop.run, loop.limits, loop.source.length
        if (
            length is None or run.ema is not None or run.moments.wanted("update")
            or _moves_a_tensor(run)
            or (limits.minutes, limits.samples, limits.tokens) != (None, None, None)
        ):  # fmt: skip
            return 0
        most = min(MOST, length - loop.source.position - 1, self._in_time(loop))
        if limits.steps is not None:
            most = min(most, limits.steps - loop.turn - 1)
        if run.files is not None and run.policy.every_steps is not None:
            most = min(most, run.policy.every_steps - loop.turn % run.policy.every_steps)
        if self._every is not None:
            most = min(most, self._every - loop.turn % self._every - 1)
        return most

    def _in_time(self, loop: Loop) -> int:
        """Return how many turns take no longer than `LONGEST`; two, so that a hiccup is made up for."""
        each = loop.elapsed() / max(1, loop.turn) if self._each is None else self._each
        return max(2, int(LONGEST / max(each, 1e-9)))

    def _make(self, loop: Loop, shape: Replayed, batches: list[list[Tensor]]) -> bool:
        stepper, several, started = loop.run.stepper, shape.several, perf_counter()
        assert several is not None
        if not several.works:
            shape.several = None
            return False
        before = State(loop.run, python=False)
        schedule = _Schedule(loop.run)
        losses, norms = [], []
        rows: list[list[float]] = []
        stepper.untouched = False
        try:
            rows = schedule.rows(shape, len(batches))
            if len(rows) > 1:
                losses, norms = several(batches[: len(rows)], rows)
        finally:
            if not losses or len(losses) < len(rows):
                before.put_back()
                schedule.put_back()
                stepper.untouched = True
        if not losses or len(losses) < len(rows):
            self._singly_until = loop.turn + max(1, len(rows))
            return False
        loop.pass_over(len(rows))
        loop.turns_made(
            losses, shape.weight_of(batches[0]), [row[0] for row in rows], norms,
            samples=count_samples(batches[0]) or 1,
        )  # fmt: skip
        shape.stretched(rows)
        seconds = perf_counter() - started
        self._each = seconds / len(rows)
        loop.phase_backward += seconds
        return True


class _Schedule:
    """The learning rates to come, of a schedule that steps with each update or of none."""

    def __init__(self, run: Run):
        (self._optimizer,) = run.optimizers.values()
        found = next(iter(run.schedules.values()), None)
        self._schedule = found if found is not None and found.kind == "update" else None
        if self._schedule is not None:
            self._state = copy.deepcopy(self._schedule.state_dict())
            self._options = Options(self._optimizer)

    def rows(self, shape: Replayed, most: int) -> list[list[float]]:
        """Return the numbers of the next updates, and stand where the schedule stands after them."""
        rows: list[list[float]] = []
        if self._schedule is None and shape.stands_still():
            row = shape.numbers(0)
            return [row] * most if shape.foresees(row, None) else rows
        while len(rows) < most:
            row = shape.numbers(len(rows))
            if not shape.foresees(row, rows[-1] if rows else None):
                break
            if self._schedule is not None and not shape.has_its_options():
                break
            rows.append(row)
            if self._schedule is not None:
                self._schedule.step()
        return rows

    def put_back(self) -> None:
        """Let the schedule, and what it sets, be as it was."""
        if self._schedule is None:
            return
        self._schedule.load_state_dict(self._state)
        self._options.put_back()


def _moves_a_tensor(run: Run) -> bool:
    """Whether a schedule that steps with each update writes into a learning rate: it has no states ahead."""
    return any(schedule.kind == "update" for schedule in run.schedules.values()) and any(
        isinstance(group["lr"], Tensor)
        for optimizer in run.optimizers.values() for group in optimizer.param_groups
    )  # fmt: skip
