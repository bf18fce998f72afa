"""``run.compile_step``: the whole step replayed, with the same bits.

Turns are run both ways after 8, 16, 32, … replays: that would be three of the twenty turns of a slow
workload, so some are made before the clock begins.
"""

from __future__ import annotations

from time import perf_counter

from contestants import loop

WARM = 40
"""Turns before the first block."""


class Contestant(loop.Contestant):
    """The captured step in the visible loop."""

    def __init__(self, work):
        super().__init__(work)
        run, criterion = self.run, work.criterion
        self.train = run.compile_step(lambda batch: criterion(run.model(batch[0]), batch[1]))
        self.block(WARM)

    def block(self, steps):
        """Train one loop of so many steps."""
        run, train = self.run, self.train
        started = perf_counter()
        for step in run.loop(self.loader, steps=steps):
            train(step)
            if step.ends_run:
                self.work.settle()
            ended = perf_counter()
        assert train.why_not is None, train.why_not
        return ended - started
