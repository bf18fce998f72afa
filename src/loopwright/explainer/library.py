"""Turns of a loop that is not the program's own, and of a program without a loop.

A batch at a time, or a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.events import Event
from loopwright.explainer import device
from loopwright.explainer.turns import DEEP, LIGHT, LoopRecord, Turn

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


STEPPING = ("fetch", "forward", "backward", "grad", "step")
"""What a turn has only once its batch is there."""


class Stretches:
    """What happens outside of the program's own loops, cut into turns.

    A library's training loop begins a turn with each batch. Where nothing is fetched, a turn begins with the
    first forward or ``zero_grad`` after a step.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        self.turn: Turn | None = None

    def own_loop_begins(self) -> None:
        """A stretch before a loop of the program's own ends with it; a library's loop may be around it."""
        if self.turn is not None and not self.turn.record.by_library:
            self.end()

    def end(self) -> None:
        """The last turn is over."""
        turn, self.turn = self.turn, None
        if turn is not None:
            self.recording.end_turn(turn)

    def hears(self, kind: str, event: Event) -> None:
        """An event of a step is about to happen."""
        recording = self.recording
        if recording.turn is not None and self.turn is None:
            return
        by = _library(event)
        if not self._begins(kind, by):
            return
        recording.split()
        self.end()
        made = self._turn(by)
        if made.record.turns > 1:
            recording.marks.clear()
        recording.follow_memory(made)
        self.turn = made
        top = recording.lines.stack[-1] if recording.lines.stack else None
        if top is not None and top.statement is not None and made.mode != LIGHT:
            recording.open(top, top.statement, made)

    def _begins(self, kind: str, by: str) -> bool:
        turn = self.turn
        if turn is None:
            return True
        if kind == "fetch" and turn.events and not any(turn.count(one) for one in STEPPING):
            return not self._belongs(turn.record, by)
        if turn.record.fetches > 0:
            return kind == "fetch"
        stepped = bool(turn.events.get("step", 0) and turn.count("forward"))
        return kind in ("forward", "zero_grad") and stepped

    def _belongs(self, record: LoopRecord, by: str) -> bool:
        """What a library did before its first batch (clearing gradients) is part of its loop's first turn."""
        loops = self.recording.loops
        if ("library", by) not in loops:
            loops["library", by] = loops.pop(("library", record.by_library))
            record.by_library = by
        return record.by_library == by

    def _turn(self, by: str) -> Turn:
        recording = self.recording
        record = recording.loops.get(("library", by))
        if record is None:
            record = LoopRecord(None, None, "", len(recording.loops), by_library=by, entered=1)
            recording.loops["library", by] = record
        again = record.turns > 0
        mode = recording.policy.mode(record, None, record.turns + 1) if again else DEEP
        record.turns += 1
        now = recording.clock()
        return Turn(
            None, record, record.turns, record.turns, mode, None, now, overhead=-recording.time.ours,
            origin=now - recording.time.ours, mark=device.mark() if mode != LIGHT else None,
        )  # fmt: skip


def _library(event: Event) -> str:
    """The file of a library that calls; empty where the program does."""
    return event.site.code.co_filename if event.site is not None and event.site.by_library else ""
