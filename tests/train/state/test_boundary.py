"""A turn that does not come to its end: the run goes on from the turn's beginning, with the same bits."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from small import dataset, equal, loader, make, network, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset

import loopwright as lw
from loopwright.train.folder.reading import read_run
from loopwright.train.state.boundary import Buffers, Watched

SELDOM = lw.Checkpoint(every_epochs=None)


class Noisy(Dataset):
    """Draws from the process's generators and from one of its own, after the first few samples."""

    def __init__(self, quiet=0):
        self.samples = dataset(24)
        self.own = np.random.default_rng(3)
        self.quiet = quiet

    def __len__(self):
        return 24

    def __getitem__(self, i):
        x, y = self.samples[i]
        if self.quiet:
            self.quiet -= 1
            return x, y
        return x + random.random() + float(np.random.rand()) + self.own.random(), y  # noqa: NPY002


def model():
    """Dropout draws, BatchNorm moves in the forward pass."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def build(out, **settings):
    """A run of that model that writes no checkpoint but at its beginning and end."""
    settings.setdefault("optimizer", lambda params: torch.optim.Adam(params, lr=0.01))
    return make(out, model=model(), checkpoint=SELDOM, **settings)


PLACES = ("begin", "forward", "backward", "update", "validation")


def go(run, batches, fail=(None, None), **limits):
    """Train with validation; raise KeyError at (turn, place)."""
    turn, place = fail
    seen = []

    def here(name):
        if (turn, place) == (step.index, name):
            raise KeyError(name)

    for step in run.loop(batches, **(limits or {"epochs": 3})):
        seen.append(step.index)
        here("begin")
        x, y = step.batch
        loss = nn.functional.mse_loss(run.model(x), y)
        here("forward")
        step.log(double=loss.item() * 2)
        step.backward(loss)
        here("backward")
        step.update()
        here("update")
        if step.ends_epoch:
            mean = lw.Mean()
            for x, y in run.evaluate(loader()):
                mean.update(nn.functional.mse_loss(run.model(x), y))
                here("validation")
            step.log(valid_loss=mean)
            run.keep_best("valid_loss", mode="min")
    return seen


def everything(run):
    """What must be equal in the end."""
    return [
        *weights(run), *(b.clone() for b in run.model.buffers()), torch.rand(2),
        torch.tensor([random.random(), np.random.rand()]),  # noqa: NPY002
        torch.tensor(run.history.series["loss"].y), torch.tensor(run.history.series["double"].y),
        torch.tensor([row.values["double"] for row in run.history.epochs]),
    ]  # fmt: skip


LOADERS = {
    "shuffled": lambda: loader(shuffle=True),
    "noisy": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True),
    "workers": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=2),
    "function": lambda: lambda: iter(loader(shuffle=True)),
}


def interrupted(tmp_path, make_loader, fail, **settings):
    """The whole run, the one that went on, and the turns that it had still to do."""
    whole_settings = {k: v for k, v in settings.items() if k != "out"}
    lw.seed(0)
    whole = build(tmp_path / "whole", **whole_settings)
    go(whole, make_loader())
    expected = everything(whole)
    whole.close()
    lw.seed(0)
    with pytest.raises(KeyError), build(tmp_path / "run", **whole_settings) as run:
        # All that moves is known to move once the host was visited.
        go(run, make_loader(), fail)
    lw.seed(9)
    again = build(tmp_path / "run", **whole_settings)
    seen = go(again, make_loader())
    return expected, everything(again), seen


@pytest.fixture(autouse=True)
def _visit_at_each_turn(monkeypatch):
    """Visit the host at each turn: what moves is then seen at once; copies may cost what they cost."""
    monkeypatch.setattr("loopwright.train.loop.HOST_EVERY", 0.0)
    monkeypatch.setattr("loopwright.train.state.boundary.SHARE", 1e9)
    monkeypatch.setattr("loopwright.train.state.boundary.APART", 0.0)


@pytest.mark.parametrize(
    ("kind", "turn", "place"),
    [
        pytest.param(
            *one,
            marks=pytest.mark.long if one[0] != "shuffled" and one[1:] != (6, "forward") else (),
        )
        for one in product(LOADERS, [1, 6, 11], ["begin", "forward", "backward"])
    ],
)
def test_an_exception_before_the_update(tmp_path, kind, turn, place):
    """The turn's beginning is saved, and the same command goes on there with the same bits."""
    expected, got, seen = interrupted(tmp_path, LOADERS[kind], (turn, place))
    assert seen[0] == turn
    assert equal(got, expected)


def test_an_exception_after_the_update(tmp_path):
    """What the update has changed cannot be undone: nothing newer than the last checkpoint is saved."""
    expected, got, seen = interrupted(tmp_path, LOADERS["shuffled"], (8, "update"))
    assert seen[0] == 0
    assert equal(got, expected)


@pytest.mark.parametrize("place", ["update", "validation"])
@pytest.mark.parametrize("turn", [5, 11, 17])
def test_an_exception_in_a_turn_that_validates(tmp_path, turn, place):
    """An epoch's last turn is kept in memory before it begins: only this turn is repeated."""
    expected, got, seen = interrupted(tmp_path, LOADERS["noisy"], (turn, place))
    assert seen[0] == turn
    assert equal(got, expected)


class Stumbling:
    """Six batches with a length; what comes after the last one of the second epoch fails at first."""

    def __init__(self, fails):
        self.epochs, self.fails = 0, fails

    def __len__(self):
        return 6

    def __iter__(self):
        yield from loader(shuffle=True)
        self.epochs += 1
        if self.fails and self.epochs == 2:
            raise KeyError("after the last batch")


@pytest.mark.parametrize("seldom", [False, True])
@pytest.mark.parametrize(
    ("place", "first"), [("batches", 11), ("epoch_end", 11), ("epoch_begin", 12)]
)
def test_an_exception_between_two_epochs(tmp_path, monkeypatch, place, first, seldom):
    """An epoch's end that fails is a part of its last turn; one that is over is a boundary of its own.

    The schedule steps at the epoch's end: neither left out nor done twice.
    """
    if seldom:
        monkeypatch.setattr("loopwright.train.state.boundary.SHARE", -1.0)

    def start(out, fails):
        run = build(
            out, scheduler=lw.per_epoch(lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5))
        )
        batches = Stumbling(fails and place == "batches")

        def moment(event):
            if event.epoch == {"epoch_end": 1, "epoch_begin": 2}[place]:
                raise KeyError(place)

        if fails and place != "batches":
            run.on(place, moment)
        return run, batches

    lw.seed(0)
    whole, batches = start(None, False)
    go(whole, batches)
    expected = everything(whole)
    lw.seed(0)
    run, batches = start(tmp_path / "run", True)
    with run, pytest.raises(KeyError):
        go(run, batches)
    again, batches = start(tmp_path / "run", False)
    assert go(again, batches)[0] == (first if not seldom or first == 12 else 0)
    assert equal(everything(again), expected)


def test_a_copy_that_costs_too_much(tmp_path, monkeypatch):
    """Where a copy would take too large a share of the time, the last checkpoint is gone on from."""
    monkeypatch.setattr("loopwright.train.state.boundary.SHARE", -1.0)
    expected, got, seen = interrupted(tmp_path, LOADERS["shuffled"], (11, "validation"))
    assert seen[0] == 0
    assert equal(got, expected)


def test_validation_at_a_distance(tmp_path):
    """A turn that is as far from the last validation as that one from the one before is kept, too."""

    def body(run, fail=None):
        seen = []
        for step in run.loop(loader(shuffle=True), epochs=4):
            seen.append(step.index)
            x, y = step.batch
            step.backward(nn.functional.mse_loss(run.model(x), y))
            step.update()
            if step.index % 4 == 3:
                for _ in run.evaluate(loader()):
                    if step.index == fail:
                        raise KeyError
        return seen

    lw.seed(0)
    whole = build(None)
    body(whole)
    lw.seed(0)
    with pytest.raises(KeyError), build(tmp_path / "run") as run:
        body(run, fail=15)
    again = build(tmp_path / "run")
    assert body(again)[0] == 15
    assert equal(weights(again), weights(whole))


@pytest.mark.parametrize(("turn", "place", "first"), [(3, "forward", 3), (4, "backward", 0)])
def test_in_a_window(tmp_path, turn, place, first):
    """Gradients of earlier turns are part of the boundary; once this turn's are added it is lost."""
    expected, got, seen = interrupted(tmp_path, LOADERS["shuffled"], (turn, place), accumulate=3)
    assert seen[0] == first
    assert equal(got, expected)


def test_an_exception_in_the_data(tmp_path):
    """A sample that cannot be read once is read again: the run goes on at its turn."""

    class Breaks(Noisy):
        broken = True

        def __getitem__(self, i):
            if Breaks.broken and i == 7:
                raise OSError("the disk is away")
            return super().__getitem__(i)

    def data():
        return DataLoader(Breaks(), batch_size=4, shuffle=True)

    Breaks.broken = False
    lw.seed(0)
    whole = build(None)
    go(whole, data())
    Breaks.broken = True
    lw.seed(0)
    run = build(tmp_path / "run")
    with pytest.raises(OSError, match="away"):
        go(run, data())
    run.close()
    stood = max(row.turn for row in read_run(tmp_path / "run").checkpoints)
    Breaks.broken = False
    again = build(tmp_path / "run")
    assert go(again, data())[0] == stood
    assert equal(weights(again), weights(whole))


class Counter:
    """Something of the user's that counts."""

    def __init__(self):
        self.n = 0

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


def test_what_the_user_tracks(tmp_path):
    """A tracked object and a kept value are saved as they were at the turn's beginning."""
    run = build(tmp_path / "run")
    counter = Counter()
    run.track("counter", counter)
    with pytest.raises(KeyError):
        for step in run.loop(loader(), epochs=1):
            counter.n += 1
            run.keep("at", step.index)
            x, y = step.batch
            loss = nn.functional.mse_loss(run.model(x), y)
            if step.index == 3:
                raise KeyError
            step.backward(loss)
            step.update()
    run.close()
    again = build(tmp_path / "run")
    other = Counter()
    again.track("counter", other)
    for step in again.loop(loader(), epochs=1):
        assert (step.index, other.n, again.kept["at"]) == (3, 3, 2)
        break


def test_what_moves_without_being_seen(tmp_path, monkeypatch):
    """A boundary that is not known to the last bit is not saved: the last checkpoint is gone on from."""
    monkeypatch.setattr("loopwright.train.loop.HOST_EVERY", 1e9)
    expected, got, seen = interrupted(
        tmp_path, lambda: DataLoader(Noisy(quiet=14), batch_size=4, shuffle=True), (4, "forward")
    )
    assert seen[0] == 0
    assert equal(got, expected)


def test_what_stands_still_is_known_without_being_seen(tmp_path, monkeypatch):
    """Where only torch's generator and the weights move, every turn's beginning is known."""
    monkeypatch.setattr("loopwright.train.loop.HOST_EVERY", 1e9)
    run = make(tmp_path / "run", model=network(), checkpoint=SELDOM)
    with pytest.raises(KeyError):
        for step in run.loop(loader(shuffle=True), epochs=2):
            if step.index == 7:
                raise KeyError
            x, y = step.batch
            step.backward(nn.functional.mse_loss(run.model(x), y))
            step.update()
    run.close()
    names = [row.name for row in read_run(tmp_path / "run").checkpoints]
    assert names == ["loop-0-turn-00000000", "loop-0-turn-00000007"]


def test_watched():
    """A thing that stood still is known while it does; once seen to move it is noted at each turn."""
    value = [0]
    watched = Watched(lambda: value[0], lambda a, b: a == b)
    assert watched.known()
    value[0] = 1
    assert not watched.known()
    watched.settle()
    value[0] = 2
    watched.note()
    assert (watched.known(), watched.noted) == (True, 2)
    value[0] = 3
    assert (watched.known(), watched.noted) == (True, 2)


def test_buffers():
    """Buffers that move are noted, ones that stand still are compared, and nan is equal to itself."""
    module = nn.BatchNorm1d(2)
    module.register_buffer("mask", torch.tensor([float("nan"), 1.0]))
    buffers = Buffers({"model": module})
    assert buffers.known()
    module(torch.randn(4, 2))
    assert not buffers.known()
    buffers.settle()
    buffers.note()
    before = module.running_mean.clone()
    module(torch.randn(4, 2))
    assert buffers.known()
    assert torch.equal(buffers.noted()["model"]["running_mean"], before)
    with buffers.as_noted():
        assert torch.equal(module.running_mean, before)
    assert not torch.equal(module.running_mean, before)
    module.mask[1] = 2.0
    assert not buffers.known()
    module.mask = torch.ones(2)
    assert not buffers.known()
