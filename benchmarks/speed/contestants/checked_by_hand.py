"""The six calls and what a run does by default in each turn, by hand: the floor of the features.

The loss and the gradients' norm are looked at before the step and kept, a tqdm bar is refreshed twice a
second, each epoch is a line of JSON in a file. Nothing is explained, resumed or guarded.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from contestants import six_calls


class Contestant(six_calls.Contestant):
    """Fetch, zero_grad, forward, loss, backward, look, step, keep."""

    def __init__(self, work):
        super().__init__(work)
        self.place = tempfile.TemporaryDirectory()
        self.lines = Path(self.place.name) / "metrics.jsonl"

    def block(self, steps):
        """Train ``steps`` steps, over as many epochs as it takes."""
        model, optimizer, criterion = self.work.model, self.optimizer, self.work.criterion
        done, shown = 0, 0.0
        started = perf_counter()
        while done < steps:
            losses, norms = [], []
            bar = tqdm(total=len(self.loader), file=sys.stderr, mininterval=0.5, leave=False)
            for data, labels in self.batches():
                optimizer.zero_grad()
                loss = criterion(model(data), labels)
                losses.append(loss.item())
                loss.backward()
                norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
                norms.append(norm.item())
                if not math.isfinite(losses[-1]) or not math.isfinite(norms[-1]):
                    raise ValueError(f"turn {done}: the loss is {losses[-1]}, the norm {norms[-1]}")
                optimizer.step()
                done += 1
                if (now := perf_counter()) - shown > 0.5:
                    shown = now
                    bar.set_postfix(loss=losses[-1], refresh=False)
                    bar.update(len(losses) - bar.n)
                if done == steps:
                    break
            bar.close()
            with self.lines.open("a") as file:
                file.write(json.dumps({"loss": losses, "grad_norm": norms}) + "\n")
        return perf_counter() - started
