"""Signals among several ranks: heard by one, obeyed by all after the same turn."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from loopwright.train.process.signals import Signals


class SignalsOverRanks(Signals):
    """A signal waits in ``heard`` until all ranks have learnt of it; ``agree`` makes it pending.

    A validation is not left for it: only turns are counted alike on all ranks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard: int | None = None

    @property
    def told(self) -> tuple[float, float]:
        """What this rank says to the others: 1 for Ctrl-C, 1 for everything else."""
        return float(self.heard == signal.SIGINT), float(self.heard not in (None, signal.SIGINT))

    def agree(self, interrupts: float, others: float) -> None:
        """Take up what the ranks have heard, all together."""
        if others:
            self.pending = signal.SIGTERM
        elif interrupts:
            self.pending = signal.SIGINT

    def check_in_evaluation(self) -> None:
        """Go on: the other ranks may be in another batch."""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        ours = os.getpid() == self._pid  # not a DataLoader's worker
        if self.heard is None and ours:
            self.heard = number
            name = signal.Signals(number).name
            print(f"\n{name}: all ranks finish a turn; once more to end at once", file=sys.stderr)
            before = self._before.get(number)
            if callable(before) and before is not signal.default_int_handler:
                before(number, frame)
            return
        if ours:
            self.pending = number
        super()._handle(number, frame)
