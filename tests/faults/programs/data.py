"""The data of a drawn program: every kind of loader, with augmentation from every generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
    get_worker_info,
)

SAMPLES, BATCH = 30, 4  # seven batches of 4 and one of 2


def numbers(samples: int = SAMPLES, seed: int = 1) -> tuple[Tensor, Tensor]:
    """The same inputs (samples, 5) and targets (samples, 1) at every call."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 5, generator=draw)
    return inputs, inputs.sum(1, keepdim=True).tanh()


def noise(kind: str) -> float:
    """One draw from a global generator."""
    if kind == "torch":
        return float(torch.rand(()))
    if kind == "random":
        return random.random()
    return float(np.random.rand()) if kind == "numpy" else 0.0  # noqa: NPY002 - the global one


class Samples(Dataset):
    """A map-style data set; ``augment`` names the generator that it draws from."""

    def __init__(self, augment: str):
        self.inputs, self.targets = numbers()
        self.augment = augment

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index] + 0.1 * noise(self.augment), self.targets[index]


class Stream(IterableDataset):
    """The same samples one after the other; each worker gives every n-th."""

    def __init__(self, augment: str):
        self.samples = Samples(augment)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, len(self.samples), step):
            yield self.samples[index]


class ShuffleBuffer(IterableDataset):
    """A stream that remembers: it holds eight samples and gives a random one of them each time."""

    def __init__(self, augment: str):
        self.stream = Stream(augment)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        held: list[tuple[Tensor, Tensor]] = []
        for sample in self.stream:
            held.append(sample)
            if len(held) == 8:
                yield held.pop(int(torch.randint(8, ())))
        random.shuffle(held)
        yield from held


class Lazy(Sampler):
    """A sampler of the user's that draws each index when it is asked for, from torch's generator."""

    def __iter__(self) -> Iterator[int]:
        for _ in range(SAMPLES):
            yield int(torch.randint(SAMPLES, ()))

    def __len__(self) -> int:
        return SAMPLES


class PythonShuffle(Sampler):
    """A sampler of the user's that shuffles with Python's generator when it begins."""

    def __iter__(self) -> Iterator[int]:
        order = list(range(SAMPLES))
        random.shuffle(order)
        yield from order

    def __len__(self) -> int:
        return SAMPLES


class Buckets(Sampler):
    """A batch sampler of the user's: neighbours together, the batches in a random order."""

    def __iter__(self) -> Iterator[list[int]]:
        starts = torch.arange(0, SAMPLES, BATCH)
        for at in torch.randperm(len(starts)).tolist():
            first = int(starts[at])
            yield list(range(first, min(first + BATCH, SAMPLES)))

    def __len__(self) -> int:
        return (SAMPLES + BATCH - 1) // BATCH


def _map_style(kind: str, augment: str, rest: dict[str, Any]) -> DataLoader:
    data = Samples(augment)
    own = torch.Generator().manual_seed(3)
    if kind == "sequential":
        return DataLoader(data, BATCH, **rest)
    if kind == "shuffled":
        return DataLoader(data, BATCH, shuffle=True, **rest)
    if kind == "shuffled with generator":
        return DataLoader(data, BATCH, shuffle=True, generator=own, **rest)
    if kind == "weighted":
        return DataLoader(data, BATCH, sampler=_weighted(), **rest)
    if kind == "weighted with generator":
        return DataLoader(data, BATCH, sampler=_weighted(own), **rest)
    if kind == "lazy sampler":
        return DataLoader(data, BATCH, sampler=Lazy(), **rest)
    if kind == "python sampler":
        return DataLoader(data, BATCH, sampler=PythonShuffle(), **rest)
    if kind == "batch sampler":
        sampler = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
        return DataLoader(data, batch_sampler=sampler, **rest)
    assert kind == "own batch sampler", kind
    return DataLoader(data, batch_sampler=Buckets(), **rest)


def _weighted(generator: torch.Generator | None = None) -> WeightedRandomSampler:
    weights = torch.arange(1.0, SAMPLES + 1).tolist()
    return WeightedRandomSampler(weights, SAMPLES, generator=generator)


def make_loader(settings: dict[str, Any]) -> DataLoader | Callable[[], Iterator[Any]]:
    """The training loader of these settings."""
    kind, augment = settings["loader"], settings["augment"]
    rest: dict[str, Any] = {"num_workers": settings["workers"]}
    if settings["workers"]:
        rest["persistent_workers"] = settings["persistent"]
    if kind == "function":
        data = Samples(augment)

        def batches() -> Iterator[tuple[Tensor, ...]]:
            for first in range(0, SAMPLES, BATCH):
                rows = [data[i] for i in range(first, min(first + BATCH, SAMPLES))]
                yield tuple(torch.stack(parts) for parts in zip(*rows, strict=True))

        return batches
    if kind == "stream":
        return DataLoader(Stream(augment), BATCH, **rest)
    if kind == "shuffle buffer":
        return DataLoader(ShuffleBuffer(augment), BATCH, **rest)
    if kind.startswith("stateful"):
        from torchdata.stateful_dataloader import StatefulDataLoader

        order = {"sampler": _weighted()} if kind == "stateful weighted" else {"shuffle": True}
        return StatefulDataLoader(Samples(augment), BATCH, **order, **rest)
    return _map_style(kind, augment, rest)


def valid_loader(draws: bool) -> DataLoader:
    """Validation batches; with ``draws`` they shuffle and draw, needlessly."""
    data = Samples("random" if draws else "none")
    return DataLoader(data, 10, shuffle=draws)
