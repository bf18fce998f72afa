"""Ignite's supervised trainer with a progress bar that shows the running average of the loss."""

from __future__ import annotations

import importlib
from time import perf_counter

from torch.utils.data import DataLoader


class Contestant:
    """One engine, run once a block."""

    def __init__(self, work):
        engine = importlib.import_module("ignite.engine")
        metrics = importlib.import_module("ignite.metrics")
        bar = importlib.import_module("ignite.handlers.tqdm_logger")
        optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)
        self.trainer = engine.create_supervised_trainer(work.model, optimizer, work.criterion)
        metrics.RunningAverage(output_transform=lambda x: x).attach(self.trainer, "loss")
        bar.ProgressBar().attach(self.trainer, ["loss"])

    def block(self, steps):
        """Run for so many iterations."""
        started = perf_counter()
        self.trainer.run(self.loader, max_iters=steps)
        return perf_counter() - started
