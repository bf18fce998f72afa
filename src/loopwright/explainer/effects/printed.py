"""What the program prints, for the line that prints it.

The program's stream gets the same calls as without anybody listening, and the text is kept on the way. What a
library prints, or the program to a file, is not noted.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from typing import TYPE_CHECKING, Any

from loopwright.observe.sites import USER, kind_of, site_of

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

MOST = 200
"""Characters that are kept of one call."""


class Kept:
    """A stream that keeps what is written to another one.

    Args:
        stream: that everything goes to.
    """

    def __init__(self, stream: Any):
        self.stream = stream
        self.text = ""

    def write(self, text: str) -> None:
        """To both."""
        self.stream.write(text)
        self.text += text

    def flush(self) -> None:
        """The stream."""
        self.stream.flush()


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
            frame = sys._getframe(1)
            if not heard(frame, file):
                original(*values, file=file, flush=flush, **how)
                return
            kept = Kept(sys.stdout if file is None else file)
            original(*values, file=kept, flush=flush, **how)
            note(kept.text, frame)

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
        with self.recording.time.spent():
            site = site_of(frame)
            if site is not None:
                self.recording.note("print", site, {"text": text[:MOST], "characters": len(text)})
