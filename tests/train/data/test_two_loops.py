"""Two loops over one loader, killed between them or inside the second: the batches that would have come."""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
    get_worker_info,
)

import loopwright as lw
from loopwright.checkpoint import decode, encode
from loopwright.errors import LoopwrightWarning
from loopwright.train.data.source import Source
from loopwright.train.process import randomness

CPU = torch.device("cpu")
SAMPLES = 26  # six batches of four, one of two
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11's own


def noise():
    """A draw from each of the process's generators."""
    return torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002


class Augmented(Dataset):
    """Samples with noise, and a count of those that were asked for."""

    def __init__(self):
        self.asked = 0

    def __len__(self):
        return SAMPLES

    def __getitem__(self, i):
        self.asked += 1
        return i + noise() + 0.01 * self.asked


class Stream(IterableDataset):
    """The same without indices."""

    def __iter__(self):
        info = get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, SAMPLES, stride):
            yield i + noise()


class Knowing(IterableDataset):
    """A stream that knows where it is."""

    def __init__(self):
        self.at = 0
        self.resume = None

    def __iter__(self):
        self.at = 0
        return self.go_on()

    def go_on(self):
        info = get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        own = range(first, SAMPLES, stride)
        begin, self.resume = self.resume or 0, None
        for i in range(begin, len(own)):
            self.at = i + 1
            yield own[i] + noise()

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.resume = state["at"]


class Lazy(Sampler):
    """Draws each index when it is asked for."""

    def __iter__(self):
        for _ in range(SAMPLES):
            yield int(torch.randint(SAMPLES, ()))

    def __len__(self):
        return SAMPLES


class Eager(Sampler):
    """Draws all of them as soon as it is iterated over."""

    def __iter__(self):
        return iter(torch.randperm(SAMPLES).tolist())

    def __len__(self):
        return SAMPLES


class Buckets(Sampler):
    """Gives whole batches."""

    def __iter__(self):
        order = list(range(SAMPLES))
        random.shuffle(order)
        return iter([order[i : i + 4] for i in range(0, SAMPLES, 4)])

    def __len__(self):
        return 7


class Mixed(BatchSampler):
    """Neighbours together, the batches in a random order."""

    def __iter__(self):
        batches = list(super().__iter__())
        random.shuffle(batches)
        return iter(batches)


DATA = {
    "shuffled": lambda: (Augmented(), {"batch_size": 4, "shuffle": True}),
    "weighted": lambda: (
        Augmented(),
        {"batch_size": 4, "sampler": WeightedRandomSampler([1.0, 2.0] * 13, SAMPLES)},
    ),
    "lazy sampler": lambda: (Augmented(), {"batch_size": 4, "sampler": Lazy()}),
    "eager sampler": lambda: (Augmented(), {"batch_size": 4, "sampler": Eager()}),
    "own batches": lambda: (Augmented(), {"batch_sampler": Buckets()}),
    "mixed batches": lambda: (
        Augmented(),
        {"batch_sampler": Mixed(SequentialSampler(range(SAMPLES)), 4, drop_last=False)},
    ),
    "stream": lambda: (Stream(), {"batch_size": 4}),
}
STATEFUL = {
    **DATA,
    "knowing stream": lambda: (Knowing(), {"batch_size": 4}),
    "now and then": lambda: (
        Augmented(),
        {"batch_size": 4, "shuffle": True, "snapshot_every_n_steps": 3},
    ),
}
WORKERS = {
    "main": {},
    "workers": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}


def others_draw():
    """What a training step does to the generators between two batches."""
    torch.rand(3)
    random.random()
    np.random.rand()  # noqa: NPY002


def equal(one, other):
    """Whether two lists of batches are the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def copy(state):
    """A state as a checkpoint gives it back."""
    return decode(*encode(state))


def read(source, epoch, until):
    """Read on to ``until`` = (epoch, position), drawing as a training does; return the batches."""
    seen = []
    while (epoch, source.position) < until:
        if source.iterator is None:
            source.start_epoch()
        try:
            batch = source.fetch()
        except StopIteration:
            source.epoch_ended()
            epoch += 1
            continue
        source.hand_out()
        others_draw()
        seen.append(batch.clone())
    return seen


def trial(make, end, place):
    """What the second loop gives when nothing happens, and when another process goes on at ``place``.

    Args:
        make: returns the loader.
        end: (epoch, position) where the first loop ends.
        place: the same of the kill in the second; None: it comes between the two.
    """
    lw.seed(3)
    loader = make()
    first = Source(loader)
    read(first, 0, end)
    if end[1]:
        first.end_inside()
    left = copy({"source": first.state_dict(), "random": randomness.snapshot()})
    second = Source(loader)
    read(second, 0, place or (0, 0))
    state = copy({"source": second.state_dict(), "random": randomness.snapshot()})
    expected = read(second, (place or (0, 0))[0], (2, 0))

    lw.seed(99)
    loader = make()
    Source(loader).leave(left["source"])
    randomness.restore(left["random"])
    again = Source(loader)
    if place is not None:
        lw.seed(98)
        again.load_state_dict(state["source"])
        again.resume_epoch(CPU, state["random"], before_restore=lambda: None)
    got = read(again, (place or (0, 0))[0], (2, 0))
    return expected, got


PLACES = [None, (0, 0), (0, 1), (0, 4), (1, 0), (1, 3)]
ENDS = [(1, 0), (0, 3)]


def cases(kinds, *quick):
    """Every kind with all workers, ends and kills; all but the ``quick`` ones are long."""
    return pytest.mark.parametrize(
        ("kind", "workers", "end", "place"),
        [
            pytest.param(
                *one, id="-".join(map(str, one)), marks=() if one in quick else pytest.mark.long
            )
            for one in itertools.product(kinds, WORKERS, ENDS, PLACES)
        ],
    )


@cases(
    STATEFUL,
    ("shuffled", "persistent", (1, 0), (0, 0)),
    ("shuffled", "persistent", (1, 0), (0, 4)),
    ("shuffled", "persistent", (0, 3), None),
    ("weighted", "main", (0, 3), (0, 4)),
    ("weighted", "persistent", (1, 0), (1, 3)),
    ("lazy sampler", "workers", (1, 0), (0, 4)),
    ("eager sampler", "main", (1, 0), (0, 4)),
    ("stream", "persistent", (1, 0), (1, 3)),
    ("stream", "main", (1, 0), (0, 4)),
    ("knowing stream", "main", (1, 0), (0, 4)),
    ("knowing stream", "persistent", (1, 0), (1, 0)),
    ("now and then", "persistent", (0, 3), (0, 1)),
)
def test_stateful(kind, workers, end, place):
    """A loader that knows where it is goes on where it was, its workers and samplers as well."""
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def make():
        data, settings = STATEFUL[kind]()
        return torchdata.StatefulDataLoader(data, **settings, **WORKERS[workers])

    expected, got = trial(make, end, place)
    assert len(expected) > 3
    assert equal(got, expected)


@cases(
    DATA,
    ("shuffled", "persistent", (0, 3), None),
    ("eager sampler", "persistent", (1, 0), (1, 3)),
    ("stream", "persistent", (1, 0), (0, 4)),
)
def test_torchs(kind, workers, end, place):
    """So does torch's own loader."""

    def make():
        data, settings = DATA[kind]()
        return DataLoader(data, **settings, **WORKERS[workers])

    expected, got = trial(make, end, place)
    assert len(expected) > 3
    assert equal(got, expected)


def stateful(**settings):
    """A StatefulDataLoader over augmented samples."""
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    return torchdata.StatefulDataLoader(Augmented(), batch_size=4, shuffle=True, **settings)


def test_the_state_before_the_batch():
    """Where a body fails, the state of the turn's beginning is saved: its batch comes again."""
    lw.seed(3)
    source = Source(stateful())
    read(source, 0, (0, 2))
    random_state, own_state = randomness.snapshot(), source.own.capture()
    source.mark()
    batch = source.fetch().clone()
    source.hand_out()
    state, start = source.state_at_mark()
    assert start is None
    again = Source(stateful())
    again.load_state_dict(copy({**state, "own": own_state}))  # as a loop's boundary notes it
    again.resume_epoch(CPU, random_state, before_restore=lambda: None)
    assert torch.equal(again.fetch(), batch)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_loop_that_ended_inside_an_epoch_is_extended(workers):
    """More turns of a loop that had ended inside an epoch are those that would have come."""
    lw.seed(3)
    source = Source(stateful(**WORKERS[workers]))
    read(source, 0, (0, 3))
    random_state = randomness.snapshot()
    source.end_inside()
    state = copy(source.state_dict())
    lw.seed(3)
    whole = Source(stateful(**WORKERS[workers]))
    expected = read(whole, 0, (1, 0))[3:]
    again = Source(stateful(**WORKERS[workers]))
    again.load_state_dict(state)
    again.resume_epoch(CPU, random_state, before_restore=lambda: None)
    assert equal(read(again, 0, (1, 0)), expected)


def test_workers_that_somebody_else_has_started_are_said():
    """Persistent workers of the user's own ``for`` report nothing: going on says that it may differ."""
    batches = stateful(num_workers=2, persistent_workers=True)
    assert len(list(batches)) == 7
    source = Source(batches)
    read(source, 0, (0, 2))
    again = Source(stateful(num_workers=2, persistent_workers=True))
    again.load_state_dict(copy(source.state_dict()))
    with pytest.warns(LoopwrightWarning, match="other-order"):
        again.resume_epoch(CPU, randomness.snapshot(), before_restore=lambda: None)


@pytest.mark.parametrize("make", [stateful, lambda **more: DataLoader(Augmented(), 4, **more)])
def test_workers_that_are_not_what_an_ended_loop_left_are_said(make):
    """Where the program itself reads between two loops, a new process cannot give the second the same."""
    source = Source(make(num_workers=2, persistent_workers=True))
    read(source, 0, (1, 0))
    state = copy(source.state_dict())
    batches = make(num_workers=2, persistent_workers=True)
    Source(batches).leave(state)
    assert len(list(batches)) == 7
    with pytest.warns(LoopwrightWarning, match="persistent workers may give other batches"):
        read(Source(batches), 0, (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoopwrightWarning)
        read(Source(batches), 0, (0, 1))  # said once
