"""Loaders of any kind: what a loop takes, how long it is, where it goes on."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from small import dataset, equal, loader, make, train, turn, weights
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    WeightedRandomSampler,
)

import loopwright as lw
from loopwright.errors import DataError, UsageError
from loopwright.train.data.fingerprint import describe
from loopwright.train.data.source import Source

stateful = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11's own


class Stream(IterableDataset):
    """Samples one after the other; workers share them out."""

    def __init__(self, count=24, draws=False):
        self.samples = dataset(count)
        self.draws = draws

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, len(self.samples), stride):
            x, y = self.samples[i]
            yield (x + torch.randn(3), y) if self.draws else (x, y)


class Augmented(Dataset):
    """Draws from all three generators of its process at each sample."""

    def __init__(self, count=24):
        self.samples = dataset(count)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        x, y = self.samples[i]
        noise = torch.randn(3) + random.random() + float(np.random.rand())  # noqa: NPY002
        return x + 0.1 * noise, y


def hand_written(batches, epochs=2):
    """The weights that the plain loop gives."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    run = make()  # for its model and optimizer alone
    for _ in range(epochs):
        for x, y in (
            batches() if callable(batches) and not isinstance(batches, DataLoader) else batches
        ):
            run.optimizer.zero_grad()
            torch.nn.functional.mse_loss(run.model(x), y).backward()
            run.optimizer.step()
    return weights(run)


def ours(batches, epochs=2, **settings):
    """The weights that the same data gives in ``run.loop``."""
    lw.seed(0)
    run = make()
    train(run, batches, epochs=epochs, **settings)
    return weights(run)


LOADERS = {
    "in order": lambda: loader(),
    "shuffled": lambda: loader(shuffle=True),
    "own generator": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(7)),
    "drop_last": lambda: loader(samples=22, drop_last=True, shuffle=True),
    "ragged": lambda: loader(samples=22, shuffle=True),
    "two workers": lambda: loader(shuffle=True, num_workers=2),
    "persistent workers": lambda: loader(shuffle=True, num_workers=2, persistent_workers=True),
    "subset": lambda: DataLoader(Subset(dataset(30), range(3, 27)), batch_size=5, shuffle=True),
    "weighted": lambda: loader(sampler=WeightedRandomSampler([1.0, 2.0] * 12, 24)),
    "batch sampler": lambda: DataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(range(24)), 5, drop_last=False)
    ),
    "no batching": lambda: DataLoader(list(loader()), batch_size=None),
    "augmented": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True),
    "augmented in workers": lambda: DataLoader(
        Augmented(), batch_size=4, shuffle=True, num_workers=2
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=5),
    "stream of workers": lambda: DataLoader(Stream(), batch_size=5, num_workers=2),
    "list": lambda: list(loader()),
    "tuple": lambda: tuple(loader()),
    "factory": lambda: lambda: iter(loader()),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_same_batches_as_the_plain_loop(kind):
    """Every kind of loader gives the plain loop's batches: the weights are equal bits."""
    assert equal(ours(LOADERS[kind]()), hand_written(LOADERS[kind]()))


@stateful
def test_stateful_data_loader():
    """torchdata's StatefulDataLoader trains like torch's own."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def make_loader():
        return StatefulDataLoader(dataset(), batch_size=4, shuffle=True)

    assert equal(ours(make_loader()), hand_written(make_loader()))


def test_generator_function():
    """A generator function is called once an epoch."""
    calls = []

    def batches():
        calls.append(1)
        yield from loader()

    steps = train(make(), batches, epochs=3)
    assert len(steps) == 18
    assert len(calls) == 3


def test_function_that_gives_no_batches():
    """A function that returns something else is named, with what it returned."""
    with pytest.raises(UsageError) as caught:
        train(make(), lambda: 5, epochs=1)
    assert caught.value.slug == "not-a-loader"
    assert "int 5" in str(caught.value)


def test_one_shot_iterator():
    """An iterator that can be read once is good for one epoch, and a second one is refused by name."""
    assert len(train(make(), iter(list(loader())), epochs=1)) == 6
    run = make()
    with pytest.raises(DataError) as caught:
        train(run, iter(list(loader())), epochs=2)
    assert caught.value.slug == "iterator-spent"
    assert "function that makes the iterator" in caught.value.hint


def test_one_shot_iterator_by_steps():
    """steps beyond the end of an iterator that can be read once are refused, not cut short."""
    with pytest.raises(DataError) as caught:
        train(make(), (batch for batch in loader()), steps=7)
    assert caught.value.slug == "iterator-spent"


def test_data_set_with_batch_size():
    """A data set goes with batch_size, and shuffle where wanted, like a DataLoader over it."""
    assert equal(ours(dataset(), batch_size=4, shuffle=True), hand_written(loader(shuffle=True)))


def test_data_set_alone():
    """A data set without a batch size is refused: its items are samples."""
    with pytest.raises(UsageError) as caught:
        make().loop(dataset(), epochs=1)
    assert caught.value.slug == "dataset-without-batch-size"
    assert "batch_size=32" in caught.value.hint


def test_batch_size_of_a_loader():
    """A loader has its batch size; another one is refused."""
    with pytest.raises(UsageError) as caught:
        make().loop(loader(), epochs=1, batch_size=3)
    assert caught.value.slug == "batch-size-of-a-loader"


@pytest.mark.parametrize(
    "thing", [5, None, "train.csv", b"x", torch.ones(4, 3), {"x": [1]}, object()]
)
def test_no_loader(thing):
    """What cannot give batches is refused with its value."""
    with pytest.raises(UsageError) as caught:
        make().loop(thing, epochs=1)
    assert caught.value.slug == "not-a-loader"
    assert "DataLoader" in caught.value.hint


def test_getitem_alone_is_iterable():
    """Python's oldest way to be iterable, __getitem__ from 0 until IndexError, is one."""
    batches = list(loader())

    class Old:
        def __getitem__(self, i):
            return batches[i]

    assert len(train(make(), Old(), epochs=2)) == 12


class Claims:
    """A loader whose len() may be untrue."""

    def __init__(self, claimed, true):
        self.claimed, self.batches = claimed, list(loader(samples=4 * true))

    def __len__(self):
        return self.claimed

    def __iter__(self):
        return iter(self.batches)


def test_loader_that_ends_early():
    """A loader with fewer batches than its len() says is an error with both numbers."""
    with pytest.raises(DataError) as caught:
        train(make(), Claims(5, 3), epochs=1)
    assert caught.value.slug == "loader-length"
    assert "len() 5" in str(caught.value)
    assert "ended after 3" in str(caught.value)


def test_loader_that_goes_on():
    """A loader with more batches than its len() says is an error, not a silent cut."""
    with pytest.raises(DataError) as caught:
        train(make(), Claims(3, 5), epochs=1)
    assert caught.value.slug == "loader-length"
    assert "went on after 3" in str(caught.value)


@pytest.mark.parametrize(
    "empty",
    [
        list,
        lambda: DataLoader(dataset(0), batch_size=4),
        lambda: loader(samples=3, batch_size=4, drop_last=True),
        lambda: lambda: iter([]),
        lambda: DataLoader(Stream(0), batch_size=4),
        lambda: iter([]),
    ],
)
def test_empty(empty):
    """A loader that gives no batch is an error: nothing would be trained."""
    with pytest.raises(DataError) as caught:
        train(make(), empty(), epochs=1)
    assert caught.value.slug == "empty-loader"


def test_empty_by_drop_last():
    """Where drop_last leaves nothing, the message says so with the numbers."""
    with pytest.raises(DataError, match="3 samples make no batch of 4"):
        make().loop(loader(samples=3, drop_last=True), epochs=1)


def test_batches_without_tensors():
    """Batches without any tensor train, each with weight 1, and the report says so."""
    run = make()
    for step in run.loop([3.0, 4.0], epochs=1):
        step.backward(run.model(torch.full((1, 3), step.batch)).sum())
        step.update()
    assert any("weight is 1" in note for note in run.notes)


def test_workers_are_let_go():
    """No worker process outlives a loop, however it ended."""
    import multiprocessing

    before = (
        multiprocessing.active_children()
    )  # another test's, of a loader that is not yet forgotten
    run = make()
    for step in run.loop(loader(num_workers=2), epochs=2):
        turn(run, step)
    with pytest.raises(KeyError):
        for _step in run.loop(loader(num_workers=2), epochs=2):
            raise KeyError
    for _step in run.loop(loader(num_workers=2), epochs=2):
        break
    assert set(multiprocessing.active_children()) <= set(before)


def test_two_loops_over_one_loader():
    """One loader serves several loops and evaluations."""
    run, batches = make(), loader(shuffle=True)
    train(run, batches, epochs=1)
    assert sum(1 for _ in run.evaluate(batches)) == 6
    assert len(train(run, batches, epochs=1)) == 6


def test_describe():
    """A source says what tells one data set from another."""
    facts = describe(Source(loader(samples=22)))
    assert facts.pop("items")
    assert facts == {
        "loader": "DataLoader",
        "batches": 6,
        "batch_size": 4,
        "dataset": "TensorDataset",
        "samples": 22,
        "sampler": "SequentialSampler",
        "workers": 0,
    }


def test_samples_per_epoch():
    """A source knows the samples of an epoch where the loader can say so."""
    assert Source(loader(samples=22)).samples_per_epoch == 22
    assert Source(loader(samples=22, drop_last=True)).samples_per_epoch == 20
    assert Source([1, 2]).samples_per_epoch is None
