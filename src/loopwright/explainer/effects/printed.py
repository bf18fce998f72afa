"""What the program prints, for the line that prints it.

What it writes is put aside first, so that objects are turned into text once and the program's stream gets the
same characters. What a library prints, or the program to a file, is not noted.
"""

from __future__ import annotations

import builtins
import functools
import io
import sys
import types
from typing import TYPE_CHECKING, Any

from loopwright.events.explained import EventNote
from loopwright.observe.sites import USER, kind_of, site_of

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

MOST = 200
"""Characters that are kept of one call."""


class Printed:
    """Listens to ``print`` from ``start`` to ``stop``.

    Args:
        recording: whose lines they are.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        self.original = builtins.print
        self.listening = self._listening()

    def _listening(self) -> Any:
        original, heard, note = self.original, self._is_heard, self._note

        @functools.wraps(original)
        def print(*values: Any, file: Any = None, flush: Any = False, **how: Any) -> None:  # noqa: A001
            if not heard(sys._getframe(1), file):
                original(*values, file=file, flush=flush, **how)
                return
            kept = io.StringIO()
            original(*values, file=kept, **how)
            original(kept.getvalue(), end="", file=file, flush=flush)
            note(kept.getvalue(), sys._getframe(1))

        return print

    def start(self) -> None:
        """From now on, unless something else stands in its place, which may take other arguments."""
        if isinstance(self.original, types.BuiltinFunctionType):
            builtins.print = self.listening

    def stop(self) -> None:
        """Somebody may have put something else in its place since."""
        if builtins.print is self.listening:
            builtins.print = self.original

    def _is_heard(self, frame: Any, file: Any) -> bool:
        recording = self.recording
        return (
            not recording.over
            and recording.lines.mine()
            and not recording.observer.here.busy
            and recording.deep
            and kind_of(frame.f_code.co_filename) == USER
            and sys.stdout is not None
            and (file is None or file is sys.stdout or file is sys.stderr)
        )

    def _note(self, text: str, frame: Any) -> None:
        recording = self.recording
        with recording.time.spent():
            site = site_of(frame)
            at = site.position() if site is not None else None
            if at is not None:
                place = at.line, at.column, at.end_line or at.line, at.end_column
                facts = {"text": text[:MOST], "characters": len(text)}
                recording.note(EventNote("print", *place, 0.0, facts))
