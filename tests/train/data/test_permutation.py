"""An order that is drawn at once is the one of torch's samplers, and so are the draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

import loopwright as lw
from loopwright.train.data import permutation
from loopwright.train.data.order import draws_at_its_end
from loopwright.train.data.permutation import permutation_of
from loopwright.train.data.source import Source

SAMPLERS = {
    "in order": lambda _: None,
    "shuffled": lambda some: RandomSampler(some),
    "a generator's": lambda some: RandomSampler(some, generator=torch.Generator().manual_seed(3)),
    "some of them": lambda some: RandomSampler(
        some, num_samples=7, generator=torch.Generator().manual_seed(3)
    ),
    "some": lambda some: RandomSampler(some, num_samples=7),
}


def loader(kind, size, *, drop_last=False, samples=13, width=64):
    """Batches of ``samples``; with 64 numbers to one, several of them are gathered at once."""
    data = TensorDataset(torch.arange(samples * width).float().reshape(samples, width))
    return DataLoader(data, size, sampler=SAMPLERS[kind](data), drop_last=drop_last)


def stands(made):
    """Where the generators stand that a loader draws from."""
    own = getattr(made.sampler, "generator", None)
    return [torch.get_rng_state().tolist(), None if own is None else own.get_state().tolist()]


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 4, 13, 20])
def test_batches_and_draws(kind, size, drop_last):
    """After each batch, and at the end, all generators stand where torch's iterators would have left them."""
    seen = []
    for count in (None, 1, 2, 100):
        torch.manual_seed(1)
        made = loader(kind, size, drop_last=drop_last)
        if count is None:
            batches = iter(made.batch_sampler)
        else:
            order = permutation_of(made)
            batches = order.batches(0, lambda count=count: count, lambda *_: None)
        epoch = []
        while (batch := next(batches, None)) is not None:
            epoch.append((list(batch), stands(made)))
        seen.append([*epoch, stands(made)])
    assert seen[1] == seen[2] == seen[3] == seen[0]


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("size", [4, 13])
def test_going_on(kind, size):
    """From any batch on, with the generators put back where they stood, come the same batches and draws."""
    torch.manual_seed(1)
    made = loader(kind, size)
    batches, whole, after = iter(made.batch_sampler), [], [stands(made)]
    while (batch := next(batches, None)) is not None:
        whole.append(list(batch))
        after.append(stands(made))
    last = stands(made)
    for first in range(1, len(whole) + 1):
        torch.manual_seed(1)
        again = loader(kind, size)
        order = permutation_of(again)
        order.begin(first)
        process, own = after[first]
        torch.set_rng_state(torch.tensor(process, dtype=torch.uint8))
        if own is not None:
            again.sampler.generator.set_state(torch.tensor(own, dtype=torch.uint8))
        rest = [list(batch) for batch in order.batches(first, lambda: 2, lambda *_: None)]
        assert rest == whole[first:]
        assert stands(again) == last


def test_what_is_prepared():
    """As many batches at a time as are asked for, from any one on, with their indices side by side."""
    order = permutation_of(loader("in order", 4))
    seen = []
    order.begin()
    batches = order.batches(
        1,
        lambda: 2,
        lambda parts, index: seen.append(([p.tolist() for p in parts], index.tolist())),
    )
    assert next(batches).tolist() == [4, 5, 6, 7]
    assert seen == [([[4, 5, 6, 7], [8, 9, 10, 11]], [4, 5, 6, 7, 8, 9, 10, 11])]
    assert [batch.tolist() for batch in batches] == [[8, 9, 10, 11], [12]]
    assert seen[1:] == [([[12]], [12])]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [64, 65])  # 256 bytes of a batch, and not
@pytest.mark.parametrize("samples", [256, 300])
def test_a_body_that_draws_from_the_samplers_generator(size, samples, drop_last):
    """It gets what it would have got in a plain loop, whatever was gathered ahead."""

    def body(batches, draw):
        return [(batch[0].tolist(), torch.rand(1, generator=draw).item()) for batch in batches]

    def ours(made):
        source = Source(made)
        for _ in range(3):
            source.start_epoch()
            for _ in range(source.length):
                yield source.fetch()
                source.hand_out()
            assert next(iter(source._feed._order), None) is None
            source.epoch_ended()

    def plain(made):
        for _ in range(3):
            yield from made

    seen = []
    for way in (plain, ours):
        data = TensorDataset(torch.arange(samples).float().unsqueeze(1))
        draw = torch.Generator().manual_seed(5)
        made = DataLoader(data, size, shuffle=True, generator=draw, drop_last=drop_last)
        seen.append(body(way(made), draw))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("samples", [256, 300])
def test_on_an_accelerator(accelerator, samples):
    """The loop fetches ahead there, but for the batch whose fetching draws."""

    def train(through):
        draw = torch.Generator().manual_seed(5)
        data = TensorDataset(torch.arange(samples * 64).float().reshape(samples, 64))
        seen = []
        for step in through(DataLoader(data, 64, shuffle=True, generator=draw)):
            batch = step.batch if hasattr(step, "skip") else step
            seen.append((batch[0].tolist(), torch.rand(1, generator=draw).item()))
            if batch is not step:
                step.skip()
        return seen

    net = nn.Linear(64, 1)
    run = lw.Run(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False)
    ours = train(lambda made: run.loop(made, epochs=3))
    assert ours == train(lambda made: (batch for _ in range(3) for batch in made))


def test_other_samplers():
    """What is not torch's own, or draws otherwise, is asked itself."""

    class Own(SequentialSampler):
        pass

    data = range(10)
    for made in (
        BatchSampler(Own(data), 2, False),
        BatchSampler(RandomSampler(data, replacement=True), 2, False),
        BatchSampler(RandomSampler(data, num_samples=25), 2, False),
        type("Batches", (BatchSampler,), {})(SequentialSampler(data), 2, False),
    ):
        assert permutation_of(DataLoader(data, batch_sampler=made)) is None


def test_a_sampler_that_was_changed(monkeypatch):
    """Somebody has put a method of his own into torch's class."""
    data = TensorDataset(torch.arange(10))
    made = DataLoader(data, 4, shuffle=True)
    assert permutation_of(made) is not None
    monkeypatch.setattr(
        RandomSampler, "__iter__", lambda self: iter(range(len(self.data_source))[::-1])
    )
    assert permutation_of(made) is None
    source = Source(made)
    source.start_epoch()
    assert source.fetch()[0].tolist() == [9, 8, 7, 6]


def test_a_torch_that_draws_otherwise(monkeypatch):
    """The trial sees it; the draws of the process are not touched by it."""
    monkeypatch.setattr(torch, "manual_seed", None)  # it seeds the devices' generators as well
    before = torch.get_rng_state()
    ours = (BatchSampler.__iter__, RandomSampler.__iter__, SequentialSampler.__iter__)
    assert permutation._as_torchs.__wrapped__(*ours)
    monkeypatch.setattr(permutation, "draws_at_its_end", lambda _: False)
    assert not permutation._as_torchs.__wrapped__(*ours)
    assert torch.equal(before, torch.get_rng_state())


def test_on_another_default_device():
    """torch's sampler draws there, too."""
    made = loader("shuffled", 4)
    with torch.device("meta"):
        assert permutation_of(made) is None


def test_who_draws_at_its_end():
    """A `RandomSampler` with a generator, unless it gives fewer samples than there are."""
    found = {name: draws_at_its_end(make(range(13))) for name, make in SAMPLERS.items()}
    assert [name for name, does in found.items() if does] == ["a generator's"]
