"""The Trainer of transformers with its defaults, without reporting to a service and without saving."""

from __future__ import annotations

import tempfile
from time import perf_counter

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments


class Named(torch.utils.data.Dataset):
    """The samples as dicts."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        x, y = self.data[index]
        return {"x": x, "labels": y}


class WithLoss(nn.Module):
    """A model that returns its loss, as Trainer wants it."""

    def __init__(self, work):
        super().__init__()
        self.model, self.criterion = work.model, work.criterion

    def forward(self, x, labels):
        """Return loss and logits."""
        logits = self.model(x)
        return {"loss": self.criterion(logits, labels), "logits": logits}


class Clock(TrainerCallback):
    """Notes when training begins and when the last update is done."""

    def on_train_begin(self, *_, **__):
        """Begin."""
        self.began = perf_counter()

    def on_step_end(self, *_, **__):
        """Note the time."""
        self.ended = perf_counter()


class Contestant:
    """One Trainer a block."""

    def __init__(self, work):
        self.work, self.model, self.data = work, WithLoss(work), Named(work.data)
        self.optimizer = work.optimizer(work.model.parameters())

    def block(self, steps):
        """Train so many steps."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as place:
            arguments = TrainingArguments(
                place, per_device_train_batch_size=self.work.batch_size, max_steps=steps,
                report_to="none", save_strategy="no", use_cpu=True, lr_scheduler_type="constant",
                max_grad_norm=0.0,
            )  # fmt: skip
            Trainer(
                self.model, arguments, train_dataset=self.data, callbacks=[clock],
                optimizers=(self.optimizer, None),
            ).train()  # fmt: skip
        return clock.ended - clock.began
