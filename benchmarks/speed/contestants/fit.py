"""``lw.fit``: the loop in one call; the clock stands at the loop's ends."""

from __future__ import annotations

import tempfile
from time import perf_counter
from typing import ClassVar

from torch.utils.data import DataLoader

import loopwright as lw


class Contestant:
    """One call. Somebody who listens to updates would have to be called between two, so nobody does."""

    warm = 0
    """Turns before the clock begins."""
    settings: ClassVar[dict] = {}

    def __init__(self, work):
        self.work = work
        self.optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Train by one call; returns the seconds of ``steps`` turns."""
        begun, ended = [], []
        warm = min(self.warm, self.work.warm, steps)

        def watch(run):
            begins, ends = run.lifecycle.begin, run.lifecycle.end
            looks = run.lifecycle.checkpoint_if_due

            def begin(loop):
                goes_on = begins(loop)
                if not warm:
                    begun.extend((0, perf_counter()))
                return goes_on

            def look(loop, step):
                looks(loop, step)
                if not begun and loop.turn >= warm:
                    begun.extend((loop.turn, perf_counter()))

            def end(loop, how):
                self.work.settle()
                ended.extend((loop.turn, perf_counter()))
                ends(loop, how)

            run.lifecycle.begin, run.lifecycle.end = begin, end
            if warm:
                run.lifecycle.checkpoint_if_due = look

        with tempfile.TemporaryDirectory() as place:
            run = lw.fit(
                self.work.model, self.optimizer, self.work.criterion, self.loader,
                steps=steps + warm, out=f"{place}/run", callbacks=[watch],
                device=self.work.device.type, **self.settings,
            )  # fmt: skip
        assert not any("not captured" in note for note in run.notes), run.notes
        return (ended[1] - begun[1]) / (ended[0] - begun[0]) * steps
