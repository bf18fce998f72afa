"""Workers and epochs draw different numbers from numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from material import legacy_numpy, quiet_run
from torch import nn
from torch.utils.data import DataLoader, Dataset

import loopwright as lw

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Draws(Dataset):
    """Each sample is a number drawn from numpy's global generator."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.tensor([legacy_numpy()], dtype=torch.float64)


class CopiedGenerator(Draws):
    """The classic: a generator of its own that every worker gets a copy of."""

    def __init__(self):
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index):
        return torch.tensor([self.generator.random()], dtype=torch.float64)


def drawn(dataset, workers):
    """Return all numbers of two epochs."""
    lw.seed(0)
    model = nn.Linear(1, 1).double()
    run = quiet_run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    numbers = []
    for step in run.loop(DataLoader(dataset, batch_size=4, num_workers=workers), epochs=2):
        numbers += step.batch.flatten().tolist()
        step.backward(run.model(step.batch).square().mean())
        step.update()
    return numbers


@pytest.mark.parametrize("workers", [0, 2])
def test_row_10_workers_and_epochs_with_the_same_augmentation(workers):
    """No number is drawn twice, over all workers and epochs; and the same seed draws the same again."""
    numbers = drawn(Draws(), workers)
    assert len(numbers) == 48
    assert len(set(numbers)) == 48
    assert drawn(Draws(), workers) == numbers


def test_row_10_copied_generators_would_be_seen():
    """The test can fail: a generator that each worker holds a copy of repeats its numbers."""
    assert len(set(drawn(CopiedGenerator(), 2))) < 48
