"""Small runs for these tests: a linear regression, its loader, one ordinary turn."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


def dataset(samples: int = 24, features: int = 3) -> TensorDataset:
    """The same numbers at every call, whatever the global generator's state."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(samples, features, generator=draw)
    return TensorDataset(x, x.sum(1, keepdim=True))


def loader(samples: int = 24, batch_size: int = 4, **settings) -> DataLoader:
    """Six batches of four, unless told."""
    return DataLoader(dataset(samples), batch_size=batch_size, **settings)


def network(features: int = 3) -> nn.Module:
    """The same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Linear(features, 1)


def make(out=None, *, model=None, **settings) -> lw.Run:
    """A run of SGD on a linear model, without progress."""
    model = network() if model is None else model
    settings.setdefault("optimizer", lambda params: torch.optim.SGD(params, lr=0.05))
    settings.setdefault("progress", False)
    return lw.Run(out, model=model, **settings)


def turn(run: lw.Run, step) -> None:
    """The ordinary body."""
    x, y = step.batch
    step.backward(nn.functional.mse_loss(run.model(x), y))
    step.update()


def train(run: lw.Run, batches=None, **limits) -> list:
    """Run one whole loop; returns its steps."""
    steps = []
    for step in run.loop(loader() if batches is None else batches, **(limits or {"epochs": 1})):
        turn(run, step)
        steps.append(step)
    return steps


def weights(run: lw.Run) -> list[torch.Tensor]:
    """Copies of all parameters."""
    return [p.detach().clone() for model in run.models.values() for p in model.parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether two lists of tensors are the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def line_of(file: str, mark: str) -> str:
    """``file.py:12`` of the one line of a file that ends in ``# <- mark``, as errors name it."""
    lines = Path(file).read_text().splitlines()
    (number,) = [i for i, text in enumerate(lines, 1) if text.endswith(f"# <- {mark}")]
    path = os.path.relpath(file)
    return f"{file if path.startswith('..') else path}:{number}"
