"""A batch is fetched ahead only where that moves no random draw, or the run says that it did."""

from __future__ import annotations

import random

import plain
import pytest
import torch
from material import BATCH, Augmented, equal, prepared, run_loop, tensors
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

import loopwright as lw
from loopwright.train.data.source import Source

CRITERION = nn.CrossEntropyLoss()


def sgd(parameters):
    """Return SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


class Stream(IterableDataset):
    """Batches without a length; with noise, each draws from torch's global generator."""

    def __init__(self, *, noise):
        self.noise = noise

    def __iter__(self):
        for inputs, labels in zip(*(part.split(BATCH) for part in tensors()), strict=True):
            yield inputs + (0.1 * torch.randn_like(inputs) if self.noise else 0.0), labels


class Length:
    """The plain loop divides by a length; it is not otherwise used."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)

    def __len__(self):
        return 5


def trained(noise):
    """Train on a stream with a run and by hand; returns the run and both models."""
    loader = DataLoader(Stream(noise=noise), batch_size=None)
    hand, optimizer, _ = prepared(sgd)
    plain.train(hand, optimizer, Length(loader), 2, CRITERION)
    ours, optimizer, _ = prepared(sgd)
    return run_loop(ours, optimizer, loader, 2, CRITERION), ours, hand


def test_a_stream_that_draws_nothing_has_the_plain_loops_bits():
    """Without a length a batch is fetched ahead, which changes nothing where no number is drawn."""
    run, ours, hand = trained(noise=False)
    assert equal(ours, hand)
    assert run.notes == []


def test_a_stream_that_draws_is_noted():
    """A stream that draws beside dropout comes in another order, and the run's record says so."""
    run, ours, hand = trained(noise=True)
    assert not equal(ours, hand)
    assert ["another order" in note for note in run.notes] == [True]


class Buckets(Sampler):
    """Draws from Python's global generator at each sample."""

    def __iter__(self):
        return (random.randrange(70) for _ in range(70))

    def __len__(self):
        return 70


def noisy_collate(samples):
    """Collate with noise."""
    inputs, labels = default_collate(samples)
    return inputs + torch.randn_like(inputs), labels


DATA = TensorDataset(*tensors())
QUIET = {
    "in order": DataLoader(DATA, BATCH),
    "shuffled": DataLoader(DATA, BATCH, shuffle=True),
    "a part": DataLoader(Subset(DATA, range(20)), BATCH, shuffle=True),
    "weighted": DataLoader(DATA, BATCH, sampler=WeightedRandomSampler([1.0] * 70, 70)),
    "with replacement": DataLoader(DATA, BATCH, sampler=RandomSampler(DATA, replacement=True)),
    "workers": DataLoader(Augmented(), BATCH, shuffle=True, num_workers=1),
}
DRAWING = {
    "augmented": DataLoader(Augmented(), BATCH),
    "collate": DataLoader(DATA, BATCH, collate_fn=noisy_collate),
    "sampler": DataLoader(DATA, BATCH, sampler=Buckets()),
    "sampler, workers": DataLoader(Augmented(), BATCH, sampler=Buckets(), num_workers=1),
    "a list": [tensors()],
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet_loaders(name):
    """Tensors in memory and workers, under torch's samplers, may be fetched ahead: nothing is drawn."""
    loader = QUIET[name]
    assert Source(loader).quiet
    if loader.num_workers:
        return
    lw.seed(0)
    iterator = iter(loader)
    next(iterator)
    states = torch.get_rng_state(), random.getstate()
    list(iterator)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@pytest.mark.parametrize("name", DRAWING)
def test_loaders_that_may_draw(name):
    """Whatever may draw at any batch is fetched where the plain loop fetches it."""
    assert not Source(DRAWING[name]).quiet
