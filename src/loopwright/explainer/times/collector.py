"""The garbage collector's time, which is ours: most of what it goes through is what was recorded.

A full collection took 200 ms in steps of 30 ms that took 8 ms alone. One that the program asks for itself, by
``gc.collect()``, stays the program's.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

FULL = 2
"""The generation that the program can have asked for."""


class Collector:
    """Counts the collections between ``start`` and ``stop`` as ours.

    Args:
        recording: whose time it is.
    """

    def __init__(self, recording: Recording):
        self.recording = recording

    def start(self) -> None:
        """From now on."""
        gc.callbacks.append(self._collects)

    def stop(self) -> None:
        """The program may have cleared the list."""
        if self._collects in gc.callbacks:
            gc.callbacks.remove(self._collects)

    def _collects(self, phase: str, info: dict[str, Any]) -> None:
        recording = self.recording
        if recording.over or not recording.lines.mine() or recording.observer.here.busy:
            return  # busy: it is ours already
        if phase == "start" and info["generation"] == FULL and self._asked():
            return
        recording.time.collects(phase)

    def _asked(self) -> bool:
        """The statement that runs calls the collector."""
        visit = self.recording.visit()
        if visit is None:
            return False
        statement = visit.statement
        lines = statement.source.text.splitlines()[statement.line - 1 : statement.end_line]
        return any("collect(" in one for one in lines)
