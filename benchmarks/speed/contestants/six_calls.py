"""The fastest loop with the tutorial's bits that can be written by hand and stays visible: a limit.

Batches are gathered a mebibyte at a time in the order that the ``DataLoader`` draws, freed memory is kept
(mallopt), and a turn is nothing but its six calls: no bar, no ``.item()``, nothing looked at or written.
What else a loop with a visible body does comes on top of this time.
"""

from __future__ import annotations

import os
from ctypes import CDLL
from time import perf_counter

import torch
from torch.utils.data import DataLoader

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


class Contestant:
    """Fetch, zero_grad, forward, loss, backward, step."""

    def __init__(self, work):
        if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            CDLL(None).mallopt(_MMAP_THRESHOLD, 32 << 20)
            CDLL(None).mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        self.work = work
        self.optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def batches(self):
        """Yield an epoch's batches; a mebibyte of them is gathered at once."""
        torch.empty(
            (), dtype=torch.int64
        ).random_()  # the DataLoader's own draw, for its workers' seeds
        order = torch.tensor(list(self.loader.sampler))
        size, tensors = self.work.batch_size, self.work.data.tensors
        bytes_each = sum(tensor[0].nbytes for tensor in tensors)
        several = size * max(1, (1 << 20) // (size * bytes_each))
        for rows in order.split(several):
            yield from zip(
                *(tensor.index_select(0, rows).split(size) for tensor in tensors), strict=True
            )

    def block(self, steps):
        """Train ``steps`` steps, over as many epochs as it takes."""
        model, optimizer, criterion = self.work.model, self.optimizer, self.work.criterion
        done = 0
        started = perf_counter()
        while done < steps:
            for data, labels in self.batches():
                optimizer.zero_grad()
                criterion(model(data), labels).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    break
        return perf_counter() - started
