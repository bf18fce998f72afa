"""Ctrl-C and SIGTERM: finish the turn, save, and end with 130 or 143; a second one ends at once.

Under SLURM its warning (``sbatch --signal=USR1@120``, also ``USR2``) means the same as SIGTERM, unless the
program has a handler of its own for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from torch.utils.data import get_worker_info

from loopwright import uncaught

PATIENCE = 5.0
"""Seconds that a fetch may still take when a signal has come; then the turn is given up."""


class Signals:
    """Handlers that are installed while a loop runs in the main thread, and chain to the user's."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self.ended = False  # a signal has ended the run
        self.at_once = False  # a second one: nothing more is saved
        self.waits_for_data = False  # a signal lets a fetch go on for a few seconds only
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()
        self._rang = False

    def install(self) -> None:
        """Take over SIGINT and SIGTERM; in another thread than the main one, do nothing."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM, *_warnings()):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_IGN, None):  # ignored on purpose, or not Python's to replace
                continue
            if number in _warnings() and handler is not signal.SIG_DFL:
                continue  # the program does something of its own when it is warned
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
        uncaught.install()
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

    def _again(self, number: int, thread: int) -> None:
        """End a wait for data that a signal has met and that does not end by itself."""
        if self.waits_for_data and self.pending is not None and hasattr(signal, "pthread_kill"):
            self._rang = True
            signal.pthread_kill(thread, number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._handle_in_child(number, frame)
            return
        if self.pending is not None:
            self.at_once = not self._rang
            self.end()
        self.pending = number
        name = signal.Signals(number).name
        print(f"\n{name}: finishing this turn; once more to end at once", file=sys.stderr)
        if self.waits_for_data:
            alarm = threading.Timer(PATIENCE, self._again, [number, threading.get_ident()])
            alarm.daemon = True
            alarm.start()
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    def _handle_in_child(self, number: int, frame: FrameType | None) -> None:
        """Do in a forked process what would have been done without us.

        A DataLoader's worker lets Ctrl-C pass: the turn that is to be finished needs its batches.
        """
        if number == signal.SIGINT and get_worker_info() is not None:
            return
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _warnings() -> tuple[int, ...]:
    """Return the signals by which a batch system says that the job's time is nearly over."""
    if "SLURM_JOB_ID" not in os.environ or not hasattr(signal, "SIGUSR1"):
        return ()
    return (signal.SIGUSR1, signal.SIGUSR2)


def _meaning(number: int | None) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(143)
