"""Batches that are gathered many at a time are the DataLoader's own."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from loopwright.observe.watch import Observer
from loopwright.train.data import bulk
from loopwright.train.data.source import Source


def tensors(samples=100, features=64):
    """Inputs whose batches of 8 fill whole cache lines, and labels that do so, too."""
    inputs = torch.arange(samples * features, dtype=torch.float32).reshape(samples, features)
    return inputs, inputs[:, :32].long()


def epoch(loader):
    """The batches that a run gets."""
    source = Source(loader)
    source.start_epoch()
    return [source.fetch() for _ in range(len(loader))]


@pytest.fixture
def gathered(monkeypatch):
    """How many samples each gather took."""
    counts = []
    inner = bulk.Gather._gathered

    def counted(self, indices, there=None, **given):
        counts.append(len(indices))
        return inner(self, indices, there, **given)

    monkeypatch.setattr(bulk.Gather, "_gathered", counted)
    return counts


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_loaders_batches(gathered, shuffle, drop_last):
    """One gather for all of a small data set; order, sizes and the draws after it are the loader's."""
    loader = DataLoader(TensorDataset(*tensors()), 8, shuffle=shuffle, drop_last=drop_last)
    torch.manual_seed(0)
    ours, after = [epoch(loader) for _ in range(2)], torch.rand(1)
    torch.manual_seed(0)
    plain, then = [list(loader) for _ in range(2)], torch.rand(1)
    assert gathered == [96 if drop_last else 100] * 2
    assert torch.equal(after, then)
    for one, other in zip(chain(*ours), chain(*plain), strict=True):
        assert type(one) is type(other)
        assert all(map(torch.equal, one, other))


def test_no_more_than_a_chunk(gathered, monkeypatch):
    """A gather takes as many batches as fit into a chunk."""
    monkeypatch.setattr(bulk, "CHUNK", 3 * 8 * (64 * 4 + 32 * 8))
    loader = DataLoader(TensorDataset(*tensors()), 8)
    for one, other in zip(epoch(loader), loader, strict=True):
        assert all(map(torch.equal, one, other))
    assert gathered == [24, 24, 24, 24, 4]


def test_a_data_set_that_is_written_to(gathered):
    """What the body writes to the data set is in the batches after it, as in a plain loop."""
    inputs, labels = tensors()
    source = Source(DataLoader(TensorDataset(inputs, labels), 8))
    source.start_epoch()
    first, _ = source.fetch()
    inputs[8:] = -1.0
    second, _ = source.fetch()
    assert torch.equal(first, tensors()[0][:8])
    assert torch.equal(second, torch.full((8, 64), -1.0))
    assert gathered == [100, 8]


def test_a_data_set_that_gets_other_tensors(gathered):
    """What the body puts in the data set's place is in the batches after it."""
    data = TensorDataset(*tensors())
    source = Source(DataLoader(data, 8))
    source.start_epoch()
    source.fetch()
    data.tensors = tuple(-part for part in data.tensors)
    assert source.ready() == []
    inputs, labels = source.fetch()
    assert torch.equal(inputs, -tensors()[0][8:16])
    assert torch.equal(labels, -tensors()[1][8:16])
    assert torch.equal(source.fetch()[0], -tensors()[0][16:24])
    assert gathered == [100, 8, 8]


def test_a_batch_that_is_written_to():
    """It is no write to the other batches of its chunk, of which a graph may hold some."""
    source = Source(DataLoader(TensorDataset(*tensors()), 8))
    source.start_epoch()
    (first, _), (second, _) = source.fetch(), source.fetch()
    weight = torch.ones((), requires_grad=True)
    loss = (weight * first).sum()
    second.add_(1)
    loss.backward()
    assert torch.equal(weight.grad, first.sum())


def test_memory_of_numpy_is_gathered_batch_by_batch(gathered):
    """torch does not learn of writes to it."""
    array = np.zeros((64, 64), dtype=np.float32)
    source = Source(DataLoader(TensorDataset(torch.from_numpy(array)), 8))
    source.start_epoch()
    source.fetch()
    array[8:] = 1.0
    assert torch.equal(source.fetch()[0], torch.ones(8, 64))
    assert gathered == [8, 8]


@pytest.mark.parametrize("size", [1, 7, 16, 100])
@pytest.mark.parametrize("samples", [100, 230, 256])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_that_do_not_fill_lines(gathered, size, samples, shuffle):
    """Labels of 16 samples are 128 bytes: what follows begins on a new line, and the batches are the same."""
    bits = torch.arange(samples) % 3 == 0
    data = TensorDataset(
        torch.randn(samples, 3), torch.randn(samples, 64), torch.arange(samples), bits
    )
    loader = DataLoader(data, size, shuffle=shuffle)
    torch.manual_seed(1)
    got = epoch(loader)
    torch.manual_seed(1)
    expected = list(loader)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert all(map(torch.equal, one, other))
        assert all(part.data_ptr() % 64 == 0 for part in one)
    assert gathered == [samples]


def test_batches_that_would_be_mostly_gaps(gathered):
    """Large rows that fill no lines would be gathered in vain: such batches get memory of their own."""
    loader = DataLoader(TensorDataset(torch.randn(9, 1025)), 2)
    for (batch,) in epoch(loader):
        assert batch.storage_offset() == 0
    assert gathered == [2, 2, 2, 2, 1]


def test_batches_of_a_chunk_begin_on_lines_of_memory(gathered):
    """Each begins where memory of its own might."""
    subset = Subset(TensorDataset(*tensors()), range(3, 91))
    for batch in epoch(DataLoader(subset, 8, shuffle=True)):
        assert all(part.data_ptr() % 64 == 0 for part in batch)
    assert gathered == [88]


def mapped(folder):
    """Arrays on the disk that are read where they are asked for."""
    np.save(folder / "x.npy", np.arange(400, dtype=np.float32).reshape(100, 4))
    np.save(folder / "y.npy", np.arange(100))
    return [torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in "xy"]


def windows(folder):
    """A file of tokens as blocks that overlap, and the same one token later."""
    np.arange(120, dtype=np.uint16).tofile(folder / "tokens.bin")
    tokens = torch.from_numpy(np.memmap(folder / "tokens.bin", np.uint16, mode="c"))
    blocks = tokens.unfold(0, 9, 1)
    return [blocks[:, :-1], blocks[:, 1:]]


def images(folder):
    """Pictures whose channels come last in memory, and every second label."""
    pictures = torch.arange(600.0).view(10, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    return [pictures, torch.arange(20)[::2]]


def turned(folder):
    """A matrix whose samples are its columns, and one number for all of them."""
    return [torch.arange(40.0).view(4, 10).t(), torch.zeros(1).expand(10)]


@pytest.mark.parametrize("make", [mapped, windows, images, turned], ids=lambda f: f.__name__)
def test_maps_and_views(gathered, make, tmp_path):
    """Memory maps and views give torch's batches, bit for bit, lying in memory as torch's do."""
    data = TensorDataset(*make(tmp_path))
    ours, theirs = DataLoader(data, 3, shuffle=True), DataLoader(data, 3, shuffle=True)
    torch.manual_seed(1)
    got = epoch(ours)
    torch.manual_seed(1)
    expected = list(theirs)
    assert len(got) == len(expected) > 3
    for one, other in zip(got, expected, strict=True):
        assert all(map(torch.equal, one, other))
        assert [t.stride() for t in one] == [t.stride() for t in other]
        assert [t.dtype for t in one] == [t.dtype for t in other]
    assert gathered


def test_batches_that_somebody_watches(gathered):
    """While a program is observed each batch is seen to be fetched, and it is the same one."""
    data = TensorDataset(*tensors())
    torch.manual_seed(1)
    expected = epoch(DataLoader(data, 8, shuffle=True))
    torch.manual_seed(1)
    source, seen = Source(DataLoader(data, 8, shuffle=True)), Seen()
    source.start_epoch()
    got = [source.fetch(), source.fetch()]
    observer = Observer([seen])
    observer.install()
    try:
        got += [source.fetch(), source.fetch()]
    finally:
        observer.uninstall()
    got += [source.fetch() for _ in range(len(expected) - 4)]
    for one, other in zip(got, expected, strict=True):
        assert all(map(torch.equal, one, other))
    assert [len(batch[0]) for batch in seen.batches] == [8, 8]
    assert all(map(torch.equal, seen.batches[0], expected[2]))
    assert gathered == [100, 100]  # at once, as without


class Seen:
    """Hears of batches."""

    def __init__(self):
        self.batches = []

    def after_fetch(self, event):
        """A batch was fetched."""
        self.batches.append(event.result)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_order_has_one_sum(drop_last):
    """The sum over an epoch's indices is the same of batches gathered at once and of single ones."""
    sums = []
    for kind in (TensorDataset, type("Own", (TensorDataset,), {})):
        torch.manual_seed(0)
        source = Source(DataLoader(kind(*tensors()), 8, shuffle=True, drop_last=drop_last))
        source.start_epoch()
        sums.append([])
        for _ in range(source.length):
            source.fetch()
            source.hand_out()
            sums[-1].append(source.state_dict()["feed"]["digest"])
    assert sums[0] == sums[1]
    assert len(set(sums[0])) == source.length


def test_data_that_are_on_a_device():
    """The batches are gathered where the data are."""
    there = TensorDataset(*(tensor.to("meta") for tensor in tensors()))
    here = list(DataLoader(TensorDataset(*tensors()), 8))
    for batch, other in zip(epoch(DataLoader(there, 8)), here, strict=True):
        assert [part.device.type for part in batch] == ["meta"] * len(batch)
        assert [part.shape for part in batch] == [part.shape for part in other]
