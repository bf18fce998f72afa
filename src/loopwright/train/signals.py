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
        if number == signal.SIGTERM:
            raise SystemExit(143)
        raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending is not None:
            self.end()
        self.pending = number
        name = signal.Signals(number).name
        print(f"\n{name}: finishing this turn; once more to end at once", file=sys.stderr)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
