"""Going on inside an epoch: the batches that would have come, bit for bit, whatever the loader."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from small import dataset, loader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import loopwright as lw
from loopwright.checkpoint import decode, encode
from loopwright.errors import DataError, LoopwrightWarning
from loopwright.train.data import draws
from loopwright.train.data.batches import tensors
from loopwright.train.data.source import Source
from loopwright.train.process import randomness

CPU = torch.device("cpu")
SHARED = np.random.default_rng(5)


class Augmented(Dataset):
    """Draws from the generators of its process, from ones of its own, and counts."""

    def __init__(self):
        self.samples = dataset(24)
        self.own = np.random.default_rng(3)
        self.python = random.Random(4)
        self.asked = 0

    def __len__(self):
        return 24

    def __getitem__(self, i):
        x, y = self.samples[i]
        self.asked += 1
        noise = torch.randn(3) + random.random() + float(np.random.rand())  # noqa: NPY002
        own = self.own.random() + self.python.random() + SHARED.random()
        return x + 0.1 * noise + own + 0.01 * self.asked, y


class Stream(IterableDataset):
    """Samples one after the other; workers share them out."""

    def __init__(self, draws=()):
        self.samples = dataset(24)
        self.draws = draws

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, len(self.samples), stride):
            x, y = self.samples[i]
            yield x + sum(draw() for draw in self.draws), y


class Lazy(Sampler):
    """Draws at every index, so that what training draws in between matters."""

    def __iter__(self):
        pool = list(range(24))
        while pool:
            yield pool.pop(int(torch.randint(len(pool), ())) if len(pool) % 2 else 0)


class Counting(Sampler):
    """Orders by how often it was asked: an epoch that it counts itself."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        yield from np.random.RandomState(self.epoch).permutation(24).tolist()

    def __len__(self):
        return 24


class OwnBatches(Sampler):
    """A batch sampler with a generator that nobody seeds."""

    def __init__(self):
        self.rng = random.Random()

    def __iter__(self):
        order = list(range(24))
        self.rng.shuffle(order)
        yield from (order[i : i + 5] for i in range(0, 24, 5))


def collate_with_noise(samples):
    """Draw while collating."""
    x, y = zip(*samples, strict=True)
    return torch.stack(x) + torch.rand(1), torch.stack(y)


DRAWS = (lambda: torch.randn(3), random.random, lambda: float(np.random.rand()))  # noqa: NPY002
LOADERS = {
    "in order": lambda: loader(),
    "shuffled": lambda: loader(shuffle=True),
    "own generator": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(7)),
    "drop_last": lambda: loader(samples=22, drop_last=True, shuffle=True),
    "subset": lambda: DataLoader(Subset(dataset(30), range(3, 27)), batch_size=5, shuffle=True),
    "subset sampler": lambda: loader(sampler=SubsetRandomSampler(range(2, 24))),
    "weighted": lambda: loader(sampler=WeightedRandomSampler([1.0, 2.0] * 12, 24)),
    "with replacement": lambda: loader(
        sampler=RandomSampler(range(24), replacement=True, num_samples=70)
    ),
    "replacement, own generator": lambda: loader(
        sampler=RandomSampler(
            range(24), replacement=True, num_samples=70, generator=torch.Generator()
        )
    ),
    "batch sampler": lambda: DataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(range(24)), 5, drop_last=False)
    ),
    "own batch sampler": lambda: DataLoader(dataset(), batch_sampler=OwnBatches()),
    "lazy sampler": lambda: loader(sampler=Lazy()),
    "counting sampler": lambda: loader(sampler=Counting()),
    "no batching": lambda: DataLoader(list(loader()), batch_size=None),
    "augmented": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True),
    "noisy collate": lambda: loader(shuffle=True, collate_fn=collate_with_noise),
    "two workers": lambda: loader(shuffle=True, num_workers=2),
    "three workers": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True, num_workers=3),
    "lazy sampler and workers": lambda: loader(sampler=Lazy(), num_workers=2),
    "counting sampler and workers": lambda: loader(sampler=Counting(), num_workers=2),
    "augmented in workers": lambda: DataLoader(
        Augmented(), batch_size=4, shuffle=True, num_workers=2
    ),
    "persistent workers": lambda: DataLoader(
        Augmented(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=5),
    "stream of workers": lambda: DataLoader(Stream(DRAWS), batch_size=5, num_workers=2),
    "stream of persistent workers": lambda: DataLoader(
        Stream(DRAWS), batch_size=5, num_workers=2, persistent_workers=True
    ),
    "stream that draws": lambda: DataLoader(Stream(DRAWS), batch_size=5),
    "stream that draws from one": lambda: DataLoader(Stream(DRAWS[1:2]), batch_size=5),
    "list": lambda: list(loader()),
    "factory": lambda: lambda: iter(loader(shuffle=True)),
}


def others_draw():
    """What a training step does to the generators between two batches."""
    torch.rand(3)
    random.random()
    np.random.rand()  # noqa: NPY002


def play(source, *, epochs, until=None, now=None):
    """Read epochs of batches with draws in between; stop after ``until`` = (epoch, position)."""
    seen = []
    epoch = 0 if now is None else now["epoch"]
    while epoch < epochs:
        if now is None:
            source.start_epoch()
        else:
            source.load_state_dict(now["source"])
            source.resume_epoch(CPU, now["random"], before_restore=lambda: None)
            now = None
        while True:
            if until == (epoch, source.position):
                return seen
            try:
                batch = source.fetch()
            except StopIteration:
                break
            source.hand_out()
            others_draw()
            seen.append([t.clone() for t in tensors(batch)])
        source.epoch_ended()
        epoch += 1
        if until == (epoch, 0):
            return seen
    seen.append([torch.rand(2), torch.tensor(random.random()), torch.rand(1)])
    return seen


def save(source, epoch):
    """The state as a checkpoint gives it back."""
    state = {"source": source.state_dict(), "random": randomness.snapshot(), "epoch": epoch}
    return decode(*encode(state))


def equal(one, other):
    """Whether two lists of batches are the same bits."""
    return len(one) == len(other) and all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(one, other, strict=True)
    )


def both(make, until, epochs=3):
    """What comes after ``until`` without an interruption, and with one."""
    global SHARED
    SHARED = np.random.default_rng(5)
    lw.seed(3)
    source = Source(make())
    play(source, epochs=epochs, until=until)
    state = save(source, until[0])
    if source.position:  # go on in the same epoch
        rest = []
        while True:
            try:
                batch = source.fetch()
            except StopIteration:
                break
            source.hand_out()
            others_draw()
            rest.append([t.clone() for t in tensors(batch)])
        source.epoch_ended()
        done = until[0] + 1
    else:
        rest, done = [], until[0]
    rest += play(source, epochs=epochs - done)
    lw.seed(99)
    SHARED = np.random.default_rng(6)
    again = Source(make())
    return rest, play(again, epochs=epochs, now=state)


PLACES = [(0, 1), (0, 3), (0, 4), (1, 0), (1, 3), (2, 1)]
QUICK = {(0, 3), (1, 0)}
"""For loaders with workers: inside an epoch, with batches ahead, and between two."""


def slow(kind, place):
    """Marked long, what starts processes and is no kind of its own."""
    long = "worker" in kind and place not in QUICK
    ids = f"{kind}-epoch {place[0]} batch {place[1]}"
    return pytest.param(kind, place, marks=[pytest.mark.long] if long else [], id=ids)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
@pytest.mark.parametrize(
    ("kind", "place"), [slow(kind, place) for kind in LOADERS for place in PLACES]
)
def test_goes_on(kind, place):
    """Every kind of loader goes on at every kind of place with the batches that would have come."""
    expected, got = both(LOADERS[kind], place)
    assert len(expected) > 4
    assert equal(got, expected)


def test_the_control():
    """The control: another seed gives other batches, so equal ones mean something."""
    seen = []
    for seed in (4, 5, 4):
        lw.seed(seed)
        seen.append(play(Source(LOADERS["augmented in workers"]()), epochs=1))
    assert not equal(seen[0], seen[1])
    assert not equal(seen[0][1:], seen[2][:-1])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11's own
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize(
    "place",
    [pytest.param((0, 3), id="0-3"), pytest.param((1, 4), id="1-4"),
     *(pytest.param(one, id=f"{one[0]}-{one[1]}", marks=pytest.mark.long)
       for one in [(1, 0), (1, 1), (2, 0)])],
)  # fmt: skip
def test_goes_on_with_its_own_state(place, workers, persistent):
    """A StatefulDataLoader goes on by its own state, its workers' generators included."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def make():
        return stateful.StatefulDataLoader(
            Augmented(), batch_size=4, shuffle=True, num_workers=workers,
            persistent_workers=persistent,
        )  # fmt: skip

    expected, got = both(make, place)
    assert equal(got, expected)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_persistent_stateful_loader_is_still_the_users():
    """A for of the user's over it gets plain batches."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    batches = stateful.StatefulDataLoader(
        dataset(24), batch_size=4, num_workers=2, persistent_workers=True
    )
    play(Source(batches), epochs=1)
    assert [len(x) for x, _ in batches] == [4] * 6


def test_nothing_is_loaded_again():
    """Going on in a map-style data set loads no sample that was trained on before."""
    asked = []

    class Asked(Dataset):
        def __len__(self):
            return 1000

        def __getitem__(self, i):
            asked.append(i)
            return torch.ones(1)

    def make(**settings):
        return Source(DataLoader(Asked(), batch_size=10, **settings))

    for settings in ({}, {"shuffle": True}, {"sampler": RandomSampler(range(1000))}):
        source = make(**settings)
        play(source, epochs=1, until=(0, 90))
        state = save(source, 0)
        asked.clear()
        play(make(**settings), epochs=1, now=state)
        assert len(asked) == 100


def test_data_got_shorter():
    """A loader that has fewer batches than were trained on is refused on resume."""
    source = Source(lambda: iter(list(loader())))
    play(source, epochs=1, until=(0, 5))
    with pytest.raises(DataError) as caught:
        play(Source(lambda: iter(list(loader(samples=8)))), epochs=1, now=save(source, 0))
    assert caught.value.slug == "data-changed"


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda: lambda: iter(loader()), lambda: lambda: iter(list(loader())[::-1])),
        (lambda: DataLoader(Stream()), lambda: DataLoader(Stream((lambda: torch.ones(3),)))),
        (lambda: loader(sampler=list(range(24))), lambda: loader(sampler=list(range(24))[::-1])),
    ],
    ids=["factory", "stream", "sampler"],
)
def test_other_batches_are_said(make, other):
    """Data that cannot give what it gave before is named in one line; it never goes by silently."""
    source = Source(make())
    play(source, epochs=1, until=(0, 3))
    with pytest.warns(LoopwrightWarning, match="other-order"):
        play(Source(other()), epochs=1, now=save(source, 0))


def test_workers_out_of_order_are_said():
    """With in_order=False batches come as workers finish: going on says that it may differ."""

    def make():
        return loader(shuffle=True, num_workers=2, in_order=False)

    source = Source(make())
    play(source, epochs=1, until=(0, 3))
    assert source.indices is None
    with pytest.warns(LoopwrightWarning, match="may give other batches"):
        play(Source(make()), epochs=1, now=save(source, 0))


def test_more_notes_than_are_kept_are_said(monkeypatch):
    """A stream whose draws alternate with the training's more often than is noted says so."""
    monkeypatch.setattr(draws, "LIMIT", 2)
    source = Source(LOADERS["stream that draws"]())
    play(source, epochs=1, until=(0, 4))
    with pytest.warns(LoopwrightWarning, match="other-order"):
        play(Source(LOADERS["stream that draws"]()), epochs=1, now=save(source, 0))


def test_alternating_draws_are_noted_only_where_they_alternate():
    """Reads that follow one another need no note, nor do generators that nobody else draws from."""
    source = Source(LOADERS["stream that draws"]())
    source.start_epoch()
    for _ in range(3):
        source.fetch()
        source.hand_out()
    assert source.state_dict()["feed"]["draws"] == {"exact": True, "notes": {}}
    torch.rand(1)
    source.fetch()
    assert {
        n: list(kinds) for n, kinds in source.state_dict()["feed"]["draws"]["notes"].items()
    } == {3: ["torch"]}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", [None, Lazy()])
def test_the_indices_of_a_batch_are_known(workers, sampler):
    """A source names the samples of the batch that it handed out, also when workers are ahead."""
    torch.manual_seed(0)
    source = Source(
        DataLoader(range(24), batch_size=4, sampler=sampler, shuffle=None if sampler else True,
                   num_workers=workers)
    )  # fmt: skip
    source.start_epoch()
    for _ in range(6):
        batch = source.fetch()
        source.hand_out()
        assert source.indices == batch.tolist()
    source.close()


def test_a_persistent_loader_is_still_the_users():
    """A loader with persistent workers gives plain batches to a for of the user's, before and after."""
    batches = loader(shuffle=True, num_workers=2, persistent_workers=True)
    source = Source(batches)
    play(source, epochs=1)
    assert [len(x) for x, _ in batches] == [4] * 6
    assert len(play(source, epochs=1)) == 7
    started = loader(num_workers=2, persistent_workers=True)
    assert len(list(started)) == 6
    assert len(play(Source(started), epochs=1)) == 7


@pytest.mark.parametrize("samples", [256, 300])
@pytest.mark.parametrize(
    "turn", [1, 4, pytest.param(5, marks=pytest.mark.long), pytest.param(7, marks=pytest.mark.long)]
)
def test_a_sampler_that_draws_at_its_end(samples, turn, tmp_path):
    """Its generator draws once more after an epoch: batches that are gathered ahead must not make it."""
    data = TensorDataset(torch.randn(samples, 64), torch.randn(samples, 1))

    def train(folder, until=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 1)
        shuffled = torch.Generator().manual_seed(5)
        batches = DataLoader(data, 64, shuffle=True, generator=shuffled)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        policy = lw.Checkpoint(every_steps=1, every_epochs=None)
        with lw.Run(
            tmp_path / folder, model=model, optimizer=optimizer, checkpoint=policy, progress=False
        ) as run:
            for step in run.loop(batches, epochs=4):
                if step.index == until:
                    raise InterruptedError
                inputs, target = step.batch
                step.backward(((run.model(inputs) - target) ** 2).mean())
                step.update()
        return model.weight.detach()

    with pytest.raises(InterruptedError):
        train("cut", turn)
    assert torch.equal(train("cut"), train("whole"))
