"""Keras on its torch backend: the torch module in a TorchModuleWrapper, ``compile`` and ``fit``."""

from __future__ import annotations

from time import perf_counter

import keras
import torch
from torch.utils.data import DataLoader


class Wrapped(keras.Model):
    """A torch module as a Keras model."""

    def __init__(self, module):
        super().__init__()
        self.inner = keras.layers.TorchModuleWrapper(module)

    def call(self, inputs):
        """Call it."""
        return self.inner(inputs)


class Clock(keras.callbacks.Callback):
    """Notes when training begins and when the last update is done."""

    def on_train_begin(self, logs=None):
        """Begin."""
        self.began = perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Note the time."""
        self.ended = perf_counter()


class Contestant:
    """One model, fitted on."""

    def __init__(self, work):
        kinds = {torch.optim.SGD: keras.optimizers.SGD, torch.optim.Adam: keras.optimizers.Adam,
                 torch.optim.AdamW: keras.optimizers.AdamW}  # fmt: skip
        given = work.optimizer(work.model.parameters())
        self.model = Wrapped(work.model)
        self.model.compile(
            optimizer=kinds[type(given)](learning_rate=given.param_groups[0]["lr"]),
            loss=lambda y, out: work.criterion(out, y.long()),
        )
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Fit so many steps."""
        clock = Clock()
        per_epoch = min(steps, len(self.loader))
        self.model.fit(
            self.loader,
            steps_per_epoch=per_epoch,
            epochs=max(1, steps // per_epoch),
            callbacks=[clock],
        )
        return (clock.ended - clock.began) * steps / (per_epoch * max(1, steps // per_epoch))
