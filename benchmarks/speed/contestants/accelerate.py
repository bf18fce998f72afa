"""Accelerate: its loop as its quick tour shows it."""

from __future__ import annotations

import importlib
import sys
from time import perf_counter

from torch.utils.data import DataLoader
from tqdm import tqdm


class Contestant:
    """The hand-written loop through an Accelerator."""

    def __init__(self, work):
        library = importlib.import_module("accelerate")  # this file has the same name
        self.work = work
        self.accelerator = library.Accelerator(cpu=work.device.type == "cpu")
        loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)
        optimizer = work.optimizer(work.model.parameters())
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            work.model, optimizer, loader
        )

    def block(self, steps):
        """Train ``steps`` steps."""
        criterion, total, done = self.work.criterion, 0.0, 0
        started = perf_counter()
        while done < steps:
            for data, labels in tqdm(self.loader, file=sys.stderr):
                self.optimizer.zero_grad()
                loss = criterion(self.model(data), labels)
                self.accelerator.backward(loss)
                self.optimizer.step()
                total += loss.item()
                done += 1
                if done == steps:
                    break
        self.work.settle()
        return perf_counter() - started
