"""torchtnt's AutoUnit and ``train``."""

from __future__ import annotations

from time import perf_counter

from torch.utils.data import DataLoader
from torchtnt.framework.auto_unit import AutoUnit
from torchtnt.framework.callback import Callback
from torchtnt.framework.train import train


class Clock(Callback):
    """Notes when training begins and when the last update is done."""

    def on_train_start(self, *_):
        """Begin."""
        self.began = perf_counter()

    def on_train_step_end(self, *_):
        """Note the time."""
        self.ended = perf_counter()


class Unit(AutoUnit):
    """Model, criterion, optimizer."""

    def __init__(self, work):
        super().__init__(module=work.model)
        self.work = work

    def compute_loss(self, state, data):
        """Return loss and outputs of a batch."""
        inputs, targets = data
        outputs = self.module(inputs)
        return self.work.criterion(outputs, targets), outputs

    def configure_optimizers_and_lr_scheduler(self, module):
        """Return the optimizer; no schedule."""
        return self.work.optimizer(module.parameters()), None


class Contestant:
    """One unit, trained on."""

    def __init__(self, work):
        self.unit = Unit(work)
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Train so many steps."""
        clock = Clock()
        train(self.unit, self.loader, max_steps=self.unit.train_progress.num_steps_completed + steps,
              callbacks=[clock])  # fmt: skip
        return clock.ended - clock.began
