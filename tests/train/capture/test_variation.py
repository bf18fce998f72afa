"""Steps that have other bits each time: replays may be as far from them as from each other."""

from __future__ import annotations

import random

import pytest
import torch
from accelerator import Graph
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw

pytestmark = pytest.mark.usefixtures("accelerator")


def trained(fn=None, *, optimizer=None, epochs=3, **settings):
    """Train with a captured step; returns it, the run, the weights and the losses."""
    lw.seed(0)
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(3))
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    made = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)))(net.parameters())
    run = lw.Run(model=net, optimizer=made, progress=False, **settings)

    def loss(batch):
        found = F.cross_entropy(run.model(batch[0]), batch[1])
        return found if fn is None else fn(found)

    train = run.compile_step(loss)
    batches = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 32, shuffle=True)
    losses = [train(step).item() for step in run.loop(batches, epochs=epochs)]
    return train, run, [p.detach().clone() for p in net.parameters()], losses


@pytest.mark.parametrize("scheduler", [None, lw.warmup_cosine(0.3)], ids=["still", "moves"])
def test_sums_in_another_order(monkeypatch, scheduler):
    """A step that is never twice the same is replayed, and the run says what that means."""
    _, _, expected, losses = trained(scheduler=scheduler)
    monkeypatch.setattr(Graph, "noise", 1e-6)
    train, run, got, ours = trained(scheduler=scheduler)
    assert train.why_not is None
    assert train.replayed > 20
    assert sum("other bits each time" in note for note in run.notes) == 1
    assert not all(map(torch.equal, got, expected))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert ours == pytest.approx(losses, rel=1e-3)


def test_python_that_changes_its_mind():
    """What Python decides is no variation: two replays have the same bits."""
    calls = []

    def ramp(loss):
        calls.append(1)
        return loss * (1 + 1e-4 * len(calls))

    train, _, _, _ = trained(ramp)
    assert "not the step as it stands" in train.why_not
    assert train.replayed == 0


def test_both(monkeypatch):
    """A step that varies by its sums, and is another one by its Python, is not replayed for long."""
    monkeypatch.setattr(Graph, "noise", 1e-6)
    calls = []

    def doubled(loss):
        calls.append(1)
        return loss * (2 if len(calls) > 12 else 1)

    train, _, _, _ = trained(doubled, epochs=6)
    assert train.why_not is not None
    assert "two replays that differ allow" in train.why_not


def test_options_that_a_schedule_moves():
    """Momentum that moves with each update is no variation: both replays have the same."""
    calls = []

    def ramp(loss):
        calls.append(1)
        return loss * (1 + 0.001 * len(calls))

    def cycle(optimizer):
        return lw.per_update(torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=200))

    for fn in (ramp, None):
        lw.seed(0)
        x = torch.randn(400, 8, generator=torch.Generator().manual_seed(3))
        net = nn.Linear(8, 4)
        made = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        run = lw.Run(model=net, optimizer=made, progress=False, scheduler=cycle(made))

        def loss(batch, run=run, fn=fn):
            found = F.cross_entropy(run.model(batch[0]), batch[1])
            return found if fn is None else fn(found)

        train = run.compile_step(loss)
        for step in run.loop(DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 32), epochs=6):
            train(step)
        assert (train.why_not is None) == (fn is None), train.why_not


def test_a_loss_that_is_another(monkeypatch):
    """What is recorded as the loss is compared, too, where the gradients are the same."""
    monkeypatch.setattr(Graph, "noise", 1e-6)
    calls = []

    def raised(loss):
        calls.append(1)
        return loss + (100 if len(calls) > 12 else 0)

    train, _, _, _ = trained(raised, epochs=6)
    assert train.why_not is not None


def test_draws_of_python(monkeypatch):
    """A step that draws in Python is not replayed, whatever its kernels do."""
    monkeypatch.setattr(Graph, "noise", 1e-6)

    def drawn(loss):
        random.random()
        return loss

    train, _, _, _ = trained(drawn)
    assert train.why_not is not None
    assert train.replayed == 0


def test_several_in_a_row(monkeypatch):
    """Several turns in one call differ from the same turns one by one by what has grown of it."""
    monkeypatch.setattr(Graph, "noise", 1e-6)
    lw.seed(0)
    x = torch.randn(64 * 8, 8, generator=torch.Generator().manual_seed(3))
    net = nn.Linear(8, 4)
    run = lw.fit(
        net, torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss(),
        DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 64), epochs=8, capture="exact", progress=False,
    )  # fmt: skip
    assert len(run.notes) == 1, "and none of several turns that had other bits"
    assert "other bits each time" in run.notes[0]
