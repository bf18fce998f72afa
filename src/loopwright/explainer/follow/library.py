"""Turns of a loop that is not the program's own, and of a program without a loop.

A batch at a time, or a step. A library fetches its batches for training and for validation at one and the
same place, so what a turn was for is told by what happened in it: one with a forward pass, and without a
backward pass or a step, evaluates. Until that is known it is expected to be what the last turn was whose
batch was fetched from the same data with gradients on, or off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from loopwright.events import Event
from loopwright.explainer.effects import device
from loopwright.explainer.follow.turns import DEEP, LIGHT, LoopRecord, Turn

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


STEPPING = ("fetch", "forward", "backward", "grad", "step")
"""What a turn has only once its batch is there."""
AHEAD = 8
"""Batches that are fetched for one turn: of several loaders, or one that the library looks ahead to."""
LEARNING = ("backward", "step")
"""What a turn of an evaluation has not."""


Fetched = tuple[int, bool]
"""A batch's data set, by identity, and whether gradients were on."""


class Stretches:
    """What happens outside of the program's own loops, cut into turns.

    A library's training loop begins a turn with each batch. Where nothing is fetched, a turn begins with the
    first forward or ``zero_grad`` after a step, or after an evaluation.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        self.turn: Turn | None = None
        self.data: Fetched = (0, True)
        """Of its first batch."""
        self.evaluated: dict[Fetched, bool] = {}
        """Whether the last turn with such a batch evaluated."""

    def own_loop_begins(self) -> None:
        """A stretch before a loop of the program's own ends with it; a library's loop may be around it."""
        if self.turn is not None and not self.turn.record.by_library:
            self.end()

    def end(self) -> None:
        """The last turn is over."""
        turn, self.turn = self.turn, None
        if turn is None:
            return
        learns = any(turn.count(one) for one in LEARNING)
        follows = turn.record.turns > 1 or turn.record.by_library
        idle = follows and not any(turn.count(one) for one in STEPPING)
        if (idle or not turn.events) and not turn.inner:  # no batch was left for it
            turn.record.turns -= 1
            self.recording.setup += turn.visits
            return
        if learns or turn.count("forward"):
            self._move(turn, evaluates=not learns)
            self.evaluated[self.data] = not learns
        self.recording.end_turn(turn)

    def hears(self, kind: str, event: Event) -> None:
        """An event of a step is about to happen."""
        recording = self.recording
        if recording.turn is not None and self.turn is None:
            return
        by = _library(event)
        if kind in ("forward", "zero_grad"):
            by = self._without_batches(by)
        data = _fetched(event) if kind == "fetch" else (0, True)
        if self._begins(kind, by):
            recording.split()
            self.end()
            self.data = data
            made = self._turn(by)
            if made.record.turns > 1:
                recording.marks.clear()
            self.turn = made
            self._follow(made)
        elif self.turn is not None and kind == "fetch" and data != self.data:
            self._redirect(self.turn, data)
        elif self.turn is not None and kind in LEARNING:
            self._move(self.turn, evaluates=False)

    def _begins(self, kind: str, by: str) -> bool:
        turn = self.turn
        if turn is None:
            return True
        unused = not any(turn.count(one) for one in STEPPING[1:])
        if kind == "fetch" and turn.events and unused and turn.count("fetch") < AHEAD:
            return not self._belongs(turn.record, by)
        if kind == "fetch":
            return True
        if turn.record.fetches > 0:
            return kind in ("forward", "zero_grad") and self._goes_on_training(turn.record, by)
        stepped = bool(turn.events.get("step", 0) and turn.count("forward"))
        return kind in ("forward", "zero_grad") and stepped

    def _goes_on_training(self, record: LoopRecord, by: str) -> bool:
        """Whether a loop that fetches its batches otherwise than by a DataLoader follows an evaluation."""
        trained = self.recording.loops.get(("library", by, False))
        other = by != record.by_library and trained is not None and not trained.fetches
        return other and torch.is_grad_enabled()

    def _without_batches(self, by: str) -> str:
        """Where a loop stands that trains without a DataLoader, whatever file its turn begins in."""
        for key, record in self.recording.loops.items():
            if isinstance(key, tuple) and not key[2] and not record.fetches:
                return record.by_library
        return by

    def _follow(self, turn: Turn) -> None:
        """What the program's statement does from here on is the turn's."""
        recording = self.recording
        recording.follow_memory(turn)
        top = recording.lines.stack[-1] if recording.lines.stack else None
        if top is not None and top.statement is not None and turn.mode != LIGHT:
            recording.open(top, top.statement, turn)

    def _redirect(self, turn: Turn, data: Fetched) -> None:
        """A turn that has done nothing yet gets other data than it was expected to get."""
        self.data = data
        before = turn.record
        self._move(turn, evaluates=self._expected(before.by_library))
        if turn.record is not before:
            self.recording.split()
            turn.mode = self._mode(turn.record)
            turn.mark = turn.mark or (device.mark() if turn.mode != LIGHT else None)
            self._follow(turn)

    def _belongs(self, record: LoopRecord, by: str) -> bool:
        """What a library did before its first batch (clearing gradients) is part of its loop's first turn."""
        loops = self.recording.loops
        known = any(key[:2] == ("library", by) for key in loops if isinstance(key, tuple))
        if not known and record.turns == 1:
            (key,) = (key for key, one in loops.items() if one is record)
            loops["library", by, key[2]] = loops.pop(key)
            record.by_library = by
        return record.by_library == by

    def _expected(self, by: str) -> bool:
        """Whether the turn that begins is an evaluation, as far as that can be known."""
        trained = self.recording.loops.get(("library", by, False))
        others = trained is not None and trained.fetches > 0
        return self.evaluated.get(self.data, others or not torch.is_grad_enabled())

    def _record(self, by: str, *, evaluates: bool) -> LoopRecord:
        loops = self.recording.loops
        record = loops.get(("library", by, evaluates))
        if record is None:
            record = LoopRecord(None, None, "", len(loops), by_library=by, entered=1)
            loops["library", by, evaluates] = record
        return record

    def _move(self, turn: Turn, *, evaluates: bool) -> None:
        """The turn is another loop's than it was expected to be."""
        before = turn.record
        record = self._record(before.by_library, evaluates=evaluates)
        if record is before:
            return
        for kind, count in turn.events.items():
            before.saw(kind, -count)
            record.saw(kind, count)
        before.turns -= 1
        record.turns += 1
        if not before.turns:
            before.data, record.data = None, record.data or before.data
        turn.record, turn.number, turn.index = record, record.turns, record.turns

    def _mode(self, record: LoopRecord) -> str:
        """What to do with the turn that is counted already."""
        return self.recording.policy.mode(record, None, record.turns) if record.turns > 1 else DEEP

    def _turn(self, by: str) -> Turn:
        recording = self.recording
        record = self._record(by, evaluates=self._expected(by))
        record.turns += 1
        mode = self._mode(record)
        now = recording.clock()
        return Turn(
            None, record, record.turns, record.turns, mode, None, now, overhead=-recording.time.ours,
            origin=now - recording.time.ours, mark=device.mark() if mode != LIGHT else None,
        )  # fmt: skip


def _fetched(event: Event) -> Fetched:
    return id(getattr(event.subject, "_dataset", None)), torch.is_grad_enabled()


def _library(event: Event) -> str:
    """The file of a library that calls; empty where the program does."""
    return event.site.code.co_filename if event.site is not None and event.site.by_library else ""
