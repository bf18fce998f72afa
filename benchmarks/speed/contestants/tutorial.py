"""The loop that tutorials teach: tqdm over a DataLoader, ``.to(device)`` and ``.item()`` at each step."""

from __future__ import annotations

import sys
from time import perf_counter

from torch.utils.data import DataLoader
from tqdm import tqdm


class Contestant:
    """The hand-written loop."""

    def __init__(self, work):
        self.work = work
        self.optimizer = work.optimizer(work.model.parameters())
        self.loader = DataLoader(work.data, batch_size=work.batch_size, shuffle=True)

    def block(self, steps):
        """Train ``steps`` steps, over as many epochs as it takes."""
        model, optimizer, criterion = self.work.model, self.optimizer, self.work.criterion
        device = self.work.device
        done, train_loss = 0, 0.0
        started = perf_counter()
        while done < steps:
            for data, labels in tqdm(self.loader, file=sys.stderr):
                data, labels = data.to(device), labels.to(device)
                optimizer.zero_grad()
                target = model(data)
                loss = criterion(target, labels)
                loss.backward()
                optimizer.step()
                train_loss += loss.item()
                done += 1
                if done == steps:
                    break
        self.work.settle()
        return perf_counter() - started
