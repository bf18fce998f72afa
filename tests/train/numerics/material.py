"""Small models, data sets and comparisons for the proofs of the numbers."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import loopwright as lw

SAMPLES, BATCH = 70, 16  # the last batch has 6


class Net(nn.Module):
    """A classifier with everything that draws or remembers: dropout and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
        )

    def forward(self, x):
        return self.layers(x)


def tensors(seed: int = 0, samples: int = SAMPLES):
    """Return inputs and class labels that follow from them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 8, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


def legacy_numpy() -> float:
    """Return the next number of numpy's global generator."""
    return float(np.random.random())  # noqa: NPY002 - the global one is the point


class Augmented(Dataset):
    """Samples with noise from torch's, numpy's and Python's global generators."""

    def __init__(self):
        self.inputs, self.labels = tensors()

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        noise = torch.rand(8) + legacy_numpy() + random.random()
        return self.inputs[index] + 0.1 * noise, self.labels[index]


def train_loader(workers: int = 0, augmented: bool = False) -> DataLoader:
    """Return a shuffling loader with a short last batch."""
    dataset = Augmented() if augmented else TensorDataset(*tensors())
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers)


def valid_loader() -> DataLoader:
    """Return a loader that draws too: it shuffles, needlessly."""
    return DataLoader(TensorDataset(*tensors(seed=1, samples=40)), batch_size=9, shuffle=True)


def prepared(make_optimizer, *, seed: int = 0, model=Net, workers: int = 0, augmented=False):
    """Seed everything and return a new model, its optimizer and a loader."""
    lw.seed(seed)
    net = model()
    return net, make_optimizer(net.parameters()), train_loader(workers, augmented)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a model's weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Return whether all weights and buffers are the same bits."""
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def worst(a, b) -> float:
    """Return the largest difference between two dicts (or lists) of tensors."""
    pairs = (
        zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else zip(a, b, strict=True)
    )
    return max(float((x - y).detach().abs().max()) for x, y in pairs)


def quiet_run(**settings) -> lw.Run:
    """Return a run that writes nothing and shows nothing."""
    return lw.Run(progress=False, **settings)


def run_loop(model, optimizer, loader, epochs, criterion, *, evaluate=None, mid=False, **settings):
    """Train with ``lw.Run`` and default settings, and evaluate at each epoch's end; returns the run.

    With ``mid`` it evaluates in the middle of each epoch as well.
    """
    run = quiet_run(model=model, optimizer=optimizer, **settings)
    turn = 0
    for step in run.loop(loader, epochs=epochs):
        turn = 0 if step.ends_epoch else turn + 1
        inputs, labels = step.batch
        step.backward(criterion(run.model(inputs), labels))
        step.update()
        if evaluate is not None and (step.ends_epoch or (mid and turn == 2)):
            for inputs, _labels in run.evaluate(evaluate):
                run.model(inputs)
                torch.rand(3), legacy_numpy(), random.random()
    return run
