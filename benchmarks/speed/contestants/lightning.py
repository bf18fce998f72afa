"""Lightning's Trainer with its defaults; no logger is installed, so none is asked for."""

from __future__ import annotations

import logging
import tempfile
from time import perf_counter

import lightning as L  # noqa: N812 - as its users write it
from torch.utils.data import DataLoader

logging.getLogger("lightning").setLevel(logging.ERROR)


class Module(L.LightningModule):
    """The model, its criterion and optimizer."""

    def __init__(self, work):
        super().__init__()
        self.model, self.criterion, self.make = work.model, work.criterion, work.optimizer
        self.optimizer = None

    def training_step(self, batch, _):
        """Return the loss of a batch."""
        data, labels = batch
        loss = self.criterion(self.model(data), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        """Return the same optimizer in each block, so that training goes on."""
        if self.optimizer is None:
            self.optimizer = self.make(self.model.parameters())
        return self.optimizer


class Clock(L.Callback):
    """Notes when training begins and when the last update is done."""

    def on_train_start(self, *_):
        """Begin."""
        self.began = perf_counter()

    def on_train_batch_end(self, *args):
        """Note the time."""
        if self.steps == args[0].global_step:
            self.work.settle()
        self.ended = perf_counter()


class Contestant:
    """One Trainer a block."""

    def __init__(self, work):
        self.work, self.module = work, Module(work)
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Fit so many steps."""
        clock = Clock()
        clock.work, clock.steps = self.work, steps
        with tempfile.TemporaryDirectory() as place:
            trainer = L.Trainer(
                accelerator={"cpu": "cpu", "cuda": "gpu"}[self.work.device.type], devices=1,
                max_steps=steps, default_root_dir=place, callbacks=[clock],
                enable_model_summary=False, logger=False,
            )  # fmt: skip
            trainer.fit(self.module, self.loader)
        return clock.ended - clock.began
