"""Ctrl-C and SIGTERM: finish the turn, save, and end with 130 or 143; a second one ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any


class Signals:
    """Handlers that are installed while a loop runs in the main thread, and chain to the user's."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self.ended = False  # a signal has ended the run
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over SIGINT and SIGTERM; in another thread than the main one, do nothing."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_IGN, None):  # ignored on purpose, or not Python's to replace
                continue
            self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the handlers back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        self._before = {}

    def check_in_evaluation(self) -> None:
        """Leave a validation at once when a signal has come."""
        if self.pending is not None:
            self.end()

    def end(self) -> None:
        """Raise what the pending signal means: KeyboardInterrupt, or SystemExit(143)."""
        number, self.pending = self.pending, None
        self.ended = True
        self.restore()
        raise _meaning(number)

    def end_in(self, frame: FrameType) -> None:
        """Raise it in a frame of the user's, at its next line.

        For a loop that was left by break: what is raised while the interpreter closes the loop's
        iterator would only be printed. Under a debugger, which has the trace function, the signal
        waits for the run's next loop.
        """
        if sys.gettrace() is not None:
            return
        number, self.pending = self.pending, None
        self.ended = True
        frames = []
        below: FrameType | None = frame
        while below is not None:
            frames.append(below)
            below = below.f_back

        def end(*_: Any) -> None:
            sys.settrace(None)
            for one in frames:
                one.f_trace = None
            raise _meaning(number)

        for one in frames:
            one.f_trace = end
        sys.settrace(lambda *_: None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending is not None:
            self.end()
        self.pending = number
        name = signal.Signals(number).name
        print(f"\n{name}: finishing this turn; once more to end at once", file=sys.stderr)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)


def _meaning(number: int | None) -> BaseException:
    return SystemExit(143) if number == signal.SIGTERM else KeyboardInterrupt()
