"""Where each rank stands: written down now and then, for the message when one does not answer.

The same thread sees that torchrun's agent has been killed, which would leave its ranks training for ever.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

EVERY_S = 2.0
ANSWER_S = 5.0
"""Seconds that the store may take to say where the ranks stand."""
_LIBRARY = (f"{os.sep}site-packages{os.sep}", f"{os.sep}lib{os.sep}python3")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Standing:
    """A thread that writes this rank's line and turn into the store that the ranks share.

    It sees a main thread that sleeps, waits or computes; one that keeps the interpreter to itself (an
    extension that never gives it back) is seen by the age of its last note.

    Attributes:
        turn: that this rank is in.
    """

    def __init__(self, store: Any, rank: int):
        self.turn = 0
        self._store = store
        self._rank = rank
        self._ended = threading.Event()
        self._main = threading.main_thread().ident
        # torchrun's agent is the parent; a parent that is a shell may end before its programs
        self._agent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._thread = threading.Thread(target=self._write, name="loopwright-standing", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._ended.wait(EVERY_S):
            if self._agent is not None and os.getppid() != self._agent:
                # It was killed, and nobody else ends its ranks: save, and go.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            frame = sys._current_frames().get(self._main or 0)
            note = {"at": place_of(frame), "turn": self.turn, "time": time.time()}
            try:
                self._store.set(f"stands/{self._rank}", json.dumps(note))
            except RuntimeError:  # the store's process has ended
                if self._agent is None:
                    return

    def others(self, size: int) -> list[str]:
        """Return a line for each rank; one line where the store does not answer.

        The store's client waits for ever for a machine that is cut off, so a thread does.
        """
        lines: list[str] = []
        asking = threading.Thread(target=lambda: lines.extend(self._ask(size)), daemon=True)
        asking.start()
        asking.join(ANSWER_S)
        if asking.is_alive():
            return [f"the machine of rank 0 has not answered within {ANSWER_S:g} s"]
        return lines

    def _ask(self, size: int) -> list[str]:
        lines = []
        for rank in range(size):
            try:
                key = f"stands/{rank}"
                if not self._store.check([key]):
                    lines.append(f"rank {rank} has written nothing")
                    continue
                note = json.loads(self._store.get(key))
            except RuntimeError:
                return ["the store in which the ranks write where they stand is gone"]
            age = time.time() - note["time"]
            old = f", and has been silent for {age:.0f} s" if age > 5 * EVERY_S else ""
            lines.append(f"rank {rank} stands at {note['at']} in turn {note['turn'] + 1}{old}")
        return lines

    def sign_of(self, rank: int) -> bytes:
        """Return what a rank has written last: it changes as long as the process lives."""
        try:
            key = f"stands/{rank}"
            return self._store.get(key) if self._store.check([key]) else b""
        except RuntimeError:  # the store has gone
            return b""

    def end(self) -> None:
        """Stop writing.

        A daemon that is inside the store when the interpreter goes takes the process down with SIGABRT.
        """
        self._ended.set()
        self._thread.join(EVERY_S)


def place_of(frame: FrameType | None) -> str:
    """Return ``train.py:12`` of the nearest frame that is the user's."""
    nearest = frame
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(("<", _OURS)) and not any(part in path for part in _LIBRARY):
            return f"{os.path.relpath(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return "nowhere" if nearest is None else f"{nearest.f_code.co_filename}:{nearest.f_lineno}"
