"""The account of denormal state: numbers of an optimizer that are too small for the processor's fast path.

How many there are, and how much slower this very machine multiplies them, is measured in the steps number
256, 512, 1024, ... (or the next one that is seen) and at the end, on the CPU alone and by the thread that
steps: whether denormals are flushed to zero is a setting of each thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loopwright import denormals
from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.events import Event
from loopwright.observe import content

FIRST = 256
"""The first step that is looked at: 0.9 decays so far in 800, 0.5 in 120."""


class Denormals:
    """The account; see the module.

    Args:
        optimizers: who is there, and how often each stepped.
        clock: seconds, like ``time.perf_counter``.
    """

    def __init__(
        self, optimizers: Optimizers, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.optimizers = optimizers
        self.clock = clock

    def after_step(self, event: Event) -> None:
        """Look at its state, if it is time."""
        entry = self.optimizers.of(event.subject, event)
        if entry.steps >= max(entry.slow_due, FIRST):
            entry.slow_due = 1 << entry.steps.bit_length()
            self._look(entry)

    def latest(self) -> list[Entry]:
        """The optimizers whose state is slow, after one more look at those that are still there."""
        for entry in self.optimizers.here():
            if entry.thread is not None and entry.steps > FIRST:
                self._look(entry)
        return [entry for entry in self.optimizers.entries if entry.slow]

    def _look(self, entry: Entry) -> None:
        with content.quiet():
            # none where it has been cleared since, or the program has begun to flush them
            entry.slow = denormals.slow(entry.ref(), self.clock)
