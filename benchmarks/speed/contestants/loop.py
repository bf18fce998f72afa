"""``run.loop`` with everything that is on by default: bar, history, checks, run folder, checkpoints."""

from __future__ import annotations

import tempfile
from time import perf_counter
from typing import ClassVar

from torch.utils.data import DataLoader

import loopwright as lw


class Contestant:
    """The visible loop."""

    settings: ClassVar[dict] = {}

    def __init__(self, work):
        self.work = work
        self.place = tempfile.TemporaryDirectory()
        self.optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)
        self.run = lw.Run(
            f"{self.place.name}/run",
            model=work.model,
            optimizer=self.optimizer,
            device=work.device.type,
            **self.settings,
        )

    def block(self, steps):
        """Train one loop of so many steps."""
        run, criterion = self.run, self.work.criterion
        started = perf_counter()
        for step in run.loop(self.loader, steps=steps):
            data, labels = step.batch
            step.backward(criterion(run.model(data), labels))
            step.update()
            if step.ends_run:
                self.work.settle()
            ended = perf_counter()
        return ended - started
