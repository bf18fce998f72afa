"""The shares of all ranks are the data set: every kind of loader, every epoch, even or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from loopwright.errors import DataError
from loopwright.parallel.shares import share_of


class Rank:
    """One rank whose others say what it says."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    def exchange(self, value):
        """Every rank's value."""
        return [value] * self.size


class Numbers(Dataset):
    """The numbers below ``n``."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return index


class Stream(IterableDataset):
    """The numbers below ``n``, shuffled by the process's generators."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        order = np.random.permutation(self.n)  # noqa: NPY002
        for number in order.tolist():
            torch.rand(1)
            yield number


class Pairs(list):
    """A sized loader that is no list of torch's, shuffled at each epoch."""

    def __iter__(self):
        return iter([self[i] for i in torch.randperm(len(self)).tolist()])


def shares(make, size, *, even, epoch=0, seed=1):
    """Every rank's batches of one epoch, the padding by itself; draws differ from rank to rank."""
    batches, padding = [], []
    for rank in range(size):
        torch.manual_seed(100 + rank)
        made, share = share_of(make(), Rank(rank, size), even=even)
        share.seed = seed
        share.set_epoch(epoch)
        mine = [torch.as_tensor(batch).flatten().tolist() for batch in made]
        padded = getattr(share, "padded", False)
        padding.append(mine.pop() if padded else None)
        batches.append(mine)
    return batches, padding


def flat(batches) -> list[int]:
    """All samples of all ranks, in order."""
    return sorted(sample for mine in batches for batch in mine for sample in batch)


SAMPLERS = {
    "in order": SequentialSampler,
    "shuffled": RandomSampler,
    "of a generator": lambda data: RandomSampler(data, generator=torch.Generator().manual_seed(3)),
    "subset": lambda data: SubsetRandomSampler(range(len(data))),
}


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("samples", [1, 2, 10, 12, 13, 24, 25])
def test_samples(kind, size, samples, even):
    """Each sample is in exactly one share; training has as many turns everywhere, and pads at most one."""
    data = Numbers(samples)

    def make():
        return DataLoader(data, batch_size=4, sampler=SAMPLERS[kind](data))

    batches, padding = shares(make, size, even=even)
    assert flat(batches) == list(range(samples))
    turns = [len(mine) + (pad is not None) for mine, pad in zip(batches, padding, strict=True)]
    if even:
        assert len(set(turns)) == 1
        assert all(len(pad) == min(4, samples) for pad in padding if pad is not None)
        joined = [sum(len(mine[i]) for mine in batches if i < len(mine)) for i in range(turns[0])]
        assert joined[:-1] == [4 * size] * (turns[0] - 1)
    else:
        assert padding == [None] * size


@pytest.mark.parametrize("kind", ["shuffled", "batches", "stream", "pairs"])
def test_epochs_have_their_own_order(kind):
    """Another epoch has another order, and the same epoch the same one, whatever the ranks have drawn."""
    first, second, again = (
        shares(lambda: loaders()[kind], 2, even=True, epoch=e)[0] for e in (0, 1, 0)
    )
    assert first == again != second
    assert flat(first) == flat(second) == list(range(20))


def loaders():
    """One loader of every kind, of 20 numbers."""
    return {
        "shuffled": DataLoader(Numbers(20), batch_size=3, shuffle=True),
        "batches": DataLoader(
            Numbers(20), batch_sampler=BatchSampler(RandomSampler(Numbers(20)), 3, drop_last=False)
        ),
        "own batches": DataLoader(Numbers(20), batch_sampler=[[i, i + 1] for i in range(0, 20, 2)]),
        "single samples": DataLoader(Numbers(20), batch_size=None, shuffle=True),
        "stream": DataLoader(Stream(20), batch_size=3),
        "pairs": Pairs([[i, i + 1] for i in range(0, 20, 2)]),
        "list": [torch.tensor([i, i + 1]) for i in range(0, 20, 2)],
        "generator": iter([[i, i + 1] for i in range(0, 20, 2)]),
    }


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", [kind for kind in loaders() if kind != "generator"])
@pytest.mark.parametrize("even", [True, False])
def test_the_union_is_the_data(kind, size, even):
    """Whatever the loader, the shares have every sample once."""
    batches, _ = shares(lambda: loaders()[kind], size, even=even)
    assert flat(batches) == list(range(20))


@pytest.mark.long
def test_streams_in_workers():
    """A stream that is read in workers is shared out in each of them."""
    loader = DataLoader(Stream(20), batch_size=3, num_workers=2)
    batches = []
    for rank in range(2):
        made, share = share_of(loader, Rank(rank, 2), even=True)
        share.seed = 1
        batches.append([batch.tolist() for batch in made])
    assert flat(batches) == sorted([*range(20)] * 2)  # each worker reads it all, as in one process


def test_drop_last():
    """The rest that does not fill a batch for every rank is left out of training; in validation, of one."""
    loader = DataLoader(Numbers(23), batch_size=4, drop_last=True)
    batches, padding = shares(lambda: loader, 2, even=True)
    assert flat(batches) == list(range(16))
    assert [len(batch) for mine in batches for batch in mine] == [4] * 4
    assert padding == [None, None]
    batches, _ = shares(lambda: loader, 2, even=False)
    assert flat(batches) == list(range(20))  # what one process validates on


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_sampler_without_a_length(drop_last, even):
    """It is shared out as it is read: to its last sample, or to the last batches that are full."""
    batches = []
    for rank in range(2):
        loader = DataLoader(
            Numbers(23), batch_size=4, sampler=map(int, range(23)), drop_last=drop_last
        )
        made, _ = share_of(loader, Rank(rank, 2), even=even)
        batches.append([batch.tolist() for batch in made])
    assert flat(batches) == list(range((16 if even else 20) if drop_last else 23))


def test_a_distributed_sampler_is_the_users():
    """It stays in training, with the epoch set; in validation, where it pads, it is replaced."""
    for rank in range(2):
        sampler = DistributedSampler(Numbers(7), 2, rank, shuffle=True)
        loader = DataLoader(Numbers(7), batch_size=2, sampler=sampler)
        made, share = share_of(loader, Rank(rank, 2), even=True)
        assert made is loader
        assert share is sampler
    batches, _ = shares(lambda: loader, 2, even=False)
    assert flat(batches) == list(range(7))


def test_weights_with_replacement():
    """A sampler that draws a sample several times is shared out as it has drawn."""
    loader = DataLoader(Numbers(5), batch_size=2, sampler=WeightedRandomSampler([1.0] * 5, 9))
    batches, _ = shares(lambda: loader, 2, even=True)
    assert len(flat(batches)) == 9


class Disagreeing(Rank):
    """A rank whose neighbour says something else."""

    def exchange(self, value):
        """Not the same twice."""
        return [value, value + 1]


def test_other_orders_are_refused():
    """Ranks that draw different orders do not train on overlapping shares."""
    made, _ = share_of(loaders()["shuffled"], Disagreeing(0, 2), even=True)
    with pytest.raises(DataError, match="ranks-disagree-on-order"):
        next(iter(made))


@pytest.mark.parametrize("kind", ["shuffled", "batches", "stream", "pairs", "list"])
def test_what_is_left_for_other_ranks(kind):
    """Where other ranks have trained on the first part of an order, the shares are the rest of it."""
    done = shares(lambda: loaders()[kind], 2, even=True, epoch=3)[0]
    turns = 2
    used = flat([mine[:turns] for mine in done])
    rest = []
    for rank in range(3):
        made, share = share_of(loaders()[kind], Rank(rank, 3), even=True)
        share.seed, share.start = 1, turns * 2 * share.batch_size
        share.set_epoch(3)
        mine = [torch.as_tensor(batch).flatten().tolist() for batch in made]
        assert not hasattr(made, "__len__") or kind == "stream" or len(made) == len(mine)
        rest.append(mine[:-1] if share.padded else mine)
    assert sorted(used + flat(rest)) == list(range(20))


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, pytest.param(8, marks=pytest.mark.long)])
def test_no_rank_trains_on_a_single_sample(size, batch_size):
    """An epoch's last turn gives two samples or more to each rank that it gives any, where they are there.

    Where a turn of one process would have had a single one too, or batches are too small, somebody has.
    """
    for samples in range(1, 2 * size * batch_size + 1):

        def make(samples=samples):
            data = Numbers(samples)
            return DataLoader(data, batch_size=batch_size, shuffle=True)

        batches, padding = shares(make, size, even=True)
        assert flat(batches) == list(range(samples))
        turns = [len(mine) + (pad is not None) for mine, pad in zip(batches, padding, strict=True)]
        assert turns == [-(-samples // (size * batch_size))] * size
        last = [mine[-1] for mine, pad in zip(batches, padding, strict=True) if pad is None]
        of_last = sum(map(len, last))
        assert all(len(one) <= batch_size for one in last)
        odd = batch_size == 2 and of_last % 2  # two and one, or three in a batch of two
        if of_last > 1 and batch_size > 1 and not odd:
            assert min(map(len, last)) >= 2, (samples, last)
        for rank in range(size):
            made, share = share_of(make(), Rank(rank, size), even=True)
            assert len(made.batch_sampler) == len(list(made)) == turns[0]
            share.set_epoch(0)
            mine = len(batches[rank][-1]) if padding[rank] is None else 0
            assert share.foreseen(turns[0]) == (mine, of_last)


@pytest.mark.parametrize("samples", [1, 7, 100])
def test_a_permutation_is_torchs(samples):
    """What is drawn without torch's sampler is what it gives where the process is seeded so."""
    made, share = share_of(DataLoader(Numbers(samples), shuffle=True), Rank(0, 1), even=True)
    for seed in (0, 5, 2**62 + 1):
        share.seed = seed
        found = [int(one) for one in made]
        torch.manual_seed(seed)
        assert found == list(iter(RandomSampler(range(samples))))
        assert sorted(found) == list(range(samples))
