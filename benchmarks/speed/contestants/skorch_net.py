"""skorch's NeuralNet: partial_fit over as many samples as the block has."""

from __future__ import annotations

from time import perf_counter

import torch
from skorch import NeuralNet


class Contestant:
    """One net, fitted on."""

    def __init__(self, work):
        self.work = work
        self.net = NeuralNet(
            module=work.model, criterion=lambda: work.criterion, batch_size=work.batch_size,
            optimizer=lambda groups, **_: work.optimizer(groups),
            train_split=None, iterator_train__shuffle=True, max_epochs=1,
        )  # fmt: skip
        self.net.initialize()

    def block(self, steps):
        """Fit one epoch of so many batches."""
        count = steps * self.work.batch_size
        rows = torch.arange(count) % len(self.work.data)
        inputs, targets = (tensor[rows] for tensor in self.work.data.tensors)
        started = perf_counter()
        self.net.partial_fit(inputs, targets)
        return perf_counter() - started
