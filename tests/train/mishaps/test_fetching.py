"""Which sample raised, or does not fit the others, in this process and in workers; also while validating."""

from __future__ import annotations

import pytest
import torch
from small import make
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from loopwright.errors import DataError

WORKERS = pytest.mark.parametrize("workers", [0, 2])


class Data(Dataset):
    """Sixteen samples; what ``at`` maps an index to is returned, or raised, instead."""

    def __init__(self, at, size=16):
        self.at = at
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        found = self.at.get(index, torch.full((3,), float(index)))
        if isinstance(found, Exception):
            raise found
        return found


class Wrapped(Dataset):
    """A data set that fetches whole batches from another one."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, number):
        return self.dataset[number]

    def __getitems__(self, numbers):
        return [self[number] for number in numbers]


def caught(data, kind, workers=0, **settings) -> Exception:
    """What training on a data set raises."""
    settings = {"batch_size": 4, "num_workers": workers} | settings
    run = make()
    with pytest.raises(kind) as error, run:
        for step in run.loop(DataLoader(data, **settings), epochs=1):
            step.skip()
    return error.value


@WORKERS
def test_the_sample_that_raised(workers):
    """The exception keeps its type, and a note names the sample and those around it."""
    error = caught(Data({13: KeyError("broken")}), KeyError, workers)
    assert error.__notes__[0] == (
        "sample 13 of the data set raised it, in the batch of samples 12 to 15"
    )
    assert error.__notes__[1] == "after turn 3, epoch 1"


@WORKERS
def test_shuffled(workers):
    """The order does not matter: the sample's own index is named."""
    torch.manual_seed(3)
    error = caught(Data({13: ValueError("broken")}), ValueError, workers, shuffle=True)
    assert error.__notes__[0].startswith(
        "sample 13 of the data set raised it, in the batch of samples "
    )


@WORKERS
def test_batches_of_one(workers):
    """With batches of one there are no others to name; without batching the sample is named too."""
    for size in (1, None):
        error = caught(Data({2: ValueError()}), ValueError, workers, batch_size=size)
        assert error.__notes__[0] == "sample 2 of the data set raised it"


@WORKERS
def test_below_a_subset(workers):
    """Of a part of another data set (``random_split``) both indices are named."""
    part = Subset(Data({13: ValueError()}), [9, 10, 11, 12, 13])
    error = caught(part, ValueError, workers, batch_size=1)
    assert error.__notes__[0] in (
        "sample 4 of the data set (13 of the Data below it) raised it",
        "sample 13 of the Data below the Subset raised it",
    )


@WORKERS
@pytest.mark.parametrize("wrapper", [Wrapped, lambda data: ConcatDataset([Data({}), data])])
def test_below_other_wrappers(workers, wrapper):
    """A data set that fetches batches, or is made of several, does not hide the sample."""
    error = caught(wrapper(Data({5: ValueError()})), ValueError, workers)
    index = 5 if wrapper is Wrapped else 21
    assert error.__notes__[0].startswith(f"sample {index} of the data set raised it")


@WORKERS
def test_raised_by_nothing_in_particular(workers):
    """Where no single sample raises (a ``collate_fn`` of the user's does), the batch is named."""
    error = caught(Data({}), ZeroDivisionError, workers, collate_fn=divide)
    assert error.__notes__[0] == "while samples 0 to 3 of the data set were fetched"


def divide(samples):
    return 1 / 0


class Once(Data):
    """Raises the first time that a sample is asked for, in each process."""

    asked: set = set()  # noqa: RUF012

    def __getitem__(self, index):
        if index == 6 and index not in self.asked:
            self.asked.add(index)
            raise OSError("once")
        return super().__getitem__(index)


def test_raised_once():
    """A sample that raises in the worker and not when it is asked for again is not accused."""
    Once.asked.add(6)  # forked workers would know
    Once.asked.clear()
    dataset = Once({})
    loader = DataLoader(dataset, batch_size=4, num_workers=1)
    run = make()
    with pytest.raises(OSError, match="once") as error, run:
        for step in run.loop(loader, epochs=1):
            Once.asked.add(6)  # in this process, after the worker was forked
            step.backward(run.model(step.batch).sum())
            step.update()
    assert error.value.__notes__[0] == "while samples 4 to 7 of the data set were fetched"


@WORKERS
def test_asking_again_leaves_no_trace(workers):
    """Looking for the sample draws nothing from the process's generators."""
    torch.manual_seed(1)
    error = caught(Draws({}), ValueError, workers)
    after = torch.rand(1)
    torch.manual_seed(1)
    caught(Draws({}), ValueError, workers)
    assert torch.equal(after, torch.rand(1))
    assert "sample 5 of the data set raised it" in error.__notes__[0]


class Draws(Data):
    def __getitem__(self, index):
        torch.rand(1)
        if index == 5:
            raise ValueError
        return super().__getitem__(index)


@WORKERS
def test_stop_iteration(workers):
    """A ``StopIteration`` in a sample is an error, and not the end of the epoch."""
    error = caught(Data({5: StopIteration("mine")}), DataError, workers)
    assert error.slug == "sample-stopped"
    assert error.what.startswith("sample 5 of the data set raised StopIteration")
    assert "test_fetching.py:" in error.where


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3)
        raise LookupError("in the stream")


@WORKERS
def test_a_stream(workers):
    """What a stream raises keeps its type and says after which turn."""
    error = caught(Stream(), LookupError, workers, batch_size=1)
    assert error.__notes__[0] in ("after turn 1, epoch 1", "before the first turn")


RAGGED = [
    (torch.zeros(2), "samples 4 and 6 do not fit into one batch: they are float32 (3) and float32 (2)"),
    (torch.zeros(3, 1), "samples 4 and 6 do not fit into one batch: they are float32 (3) and float32 (3, 1)"),
    (None, "sample 6 of the data set is None, of which no batch can be made"),
    (object(), "sample 6 of the data set is an object, of which no batch can be made"),
]  # fmt: skip


@WORKERS
@pytest.mark.parametrize(("sample", "words"), RAGGED)
def test_samples_that_do_not_fit(workers, sample, words):
    """The two samples that differ are named, with what they are; or the one that no tensor is made of."""
    error = caught(Data({6: sample}), DataError, workers)
    assert error.what == words
    assert error.slug in ("ragged-batch", "uncollatable")
    assert "test_fetching.py:" in error.where
    assert isinstance(error.__cause__, (RuntimeError, TypeError, AttributeError))  # torch's own


class Pairs(Data):
    def __getitem__(self, index):
        return self.at.get(index, {"x": [torch.zeros(3), index], "y": 1})


NESTED = [
    ({"x": [torch.zeros(4), 1], "y": 1}, "at ['x'][0] they have float32 (3) and float32 (4)"),
    ({"x": [torch.zeros(3)], "y": 1}, "at ['x'] they have 2 values and 1 values"),
    ({"x": [torch.zeros(3), 1]}, "they are keys ['x', 'y'] and keys ['x']"),
    ({"x": [torch.zeros(3), 1], "y": "a"}, "at ['y'] they have 1 and str 'a'"),
    ((torch.zeros(3), 1), "they are {x: [float32 (3), 4], y: 1} and float32 (3), 1"),
]


@pytest.mark.parametrize(("sample", "words"), NESTED)
def test_where_they_differ(sample, words):
    """In nested samples the place is named."""
    error = caught(Pairs({6: sample}), DataError)
    assert error.what == f"samples 4 and 6 do not fit into one batch: {words}"


@WORKERS
def test_in_validation(workers):
    """A sample of the validation data is named as well, and that it was an evaluation is seen."""
    run = make()
    valid = DataLoader(Data({9: KeyError("valid")}), batch_size=4, num_workers=workers)
    with pytest.raises(KeyError) as error, run:
        for step in run.loop([torch.zeros(2, 3)], epochs=1):
            step.backward(run.model(step.batch).sum())
            step.update()
            for _ in run.evaluate(valid):
                pass
    assert error.value.__notes__[0] == (
        "sample 9 of the data set raised it, in the batch of samples 8 to 11"
    )
    assert error.value.__notes__[1].startswith("in turn 1, epoch 1, on a batch of float32 (2, 3)")


def test_a_good_epoch_is_not_touched():
    """Control: data without fault end their epoch as before."""
    run = make()
    loader = DataLoader(Data({}), batch_size=4)
    assert sum(1 for step in run.loop(loader, epochs=2) if step.skip() is None) == 8
