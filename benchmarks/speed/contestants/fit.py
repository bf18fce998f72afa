"""``lw.fit``: the loop in one call; the clock stands in a callback."""

from __future__ import annotations

import tempfile
from time import perf_counter

from torch.utils.data import DataLoader

import loopwright as lw


class Contestant:
    """One call."""

    def __init__(self, work):
        self.work = work
        self.optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Train by one call."""
        times = {}

        def watch(run):
            run.on("loop_begin", lambda event: times.setdefault("begin", perf_counter()))
            run.on("update", lambda event: end())

        def end():
            times["updates"] = times.get("updates", 0) + 1
            if times["updates"] == steps:
                self.work.settle()
            times["end"] = perf_counter()

        with tempfile.TemporaryDirectory() as place:
            lw.fit(
                self.work.model, self.optimizer, self.work.criterion, self.loader, steps=steps,
                out=f"{place}/run", callbacks=[watch], device=self.work.device.type,
            )  # fmt: skip
        return times["end"] - times["begin"]
