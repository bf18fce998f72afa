"""Turns as launches of one graph: one launch a turn, more batches than slots, and where it cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.capture import ring
from loopwright.train.capture.ring import Ring

BATCH, TURNS, EPOCHS = 32, 40, 4


@pytest.fixture
def filled(accelerator, monkeypatch):
    """How many batches each filling of the slots had."""
    counts = []
    call = Ring.__call__

    def called(self, batches, rows):
        before = self._graph.replays
        found = call(self, batches, rows)
        counts.append((len(batches), self._graph.replays - before))
        return found

    monkeypatch.setattr(Ring, "__call__", called)
    return counts


def fitted(capture, dtype=torch.float32):
    """Fit; returns all that must be equal."""
    lw.seed(0)
    x = torch.randn(BATCH * TURNS, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 4)).to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    run = lw.fit(
        net, optimizer, nn.CrossEntropyLoss(),
        DataLoader(TensorDataset(x, x[:, :4].argmax(1)), BATCH, shuffle=True),
        epochs=EPOCHS, capture=capture, progress=False,
    )  # fmt: skip
    assert not run.notes
    curves = [torch.tensor(run.history.series[name].y) for name in ("loss", "grad_norm")]
    return [*(p.detach().clone() for p in net.parameters()), *curves, torch.rand(2)]


def alike(one, other):
    """Whether two lists of tensors have the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_one_launch_a_turn(filled):
    """The host launches one graph for each turn of a stretch, and the bits are the plain loop's."""
    assert alike(fitted("exact"), fitted(None))
    assert sum(turns for turns, _ in filled) > 60
    assert all(turns == launches for turns, launches in filled)


class Turned(nn.Module):
    """A weight that is used transposed, two biases that are added: gradients that lie otherwise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 37) / 3)
        self.one, self.other = (nn.Parameter(torch.zeros(37)) for _ in range(2))
        self.out = nn.Linear(37, 4)

    def forward(self, x):
        return self.out(
            torch.tanh(nn.functional.linear(x, self.weight.t()) + (self.one + self.other))
        )


def test_gradients_that_lie_otherwise(accelerator):
    """Their norm is added up as that of ``.grad``, and each is clipped once."""
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        x = torch.randn(BATCH * TURNS, 8)
        net = Turned()
        run = lw.fit(
            net, torch.optim.SGD(net.parameters(), lr=0.3), nn.CrossEntropyLoss(),
            DataLoader(TensorDataset(x, x[:, :4].argmax(1)), BATCH, shuffle=True),
            epochs=EPOCHS, capture=capture, clip=0.2, progress=False,
        )  # fmt: skip
        assert not run.notes
        norms = torch.tensor(run.history.series["grad_norm"].y)
        results.append([*(p.detach().clone() for p in net.parameters()), norms])
    assert alike(*results)


def test_more_batches_than_slots(filled, monkeypatch):
    """The slots are filled as often as it takes."""
    monkeypatch.setattr(ring, "SLOTS", 5)
    assert alike(fitted("exact"), fitted(None))
    assert max(turns for turns, _ in filled) > 10


def test_no_room(accelerator, at_once, monkeypatch):
    """Where there is no memory for the slots, a turn is two launches."""

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore")

    monkeypatch.setattr(Ring, "__init__", full)
    assert alike(fitted("exact"), fitted(None))
    assert sum(at_once) > 60


def test_numbers_of_another_type(filled):
    """In float64, losses and norms are written down in float64."""
    assert alike(fitted("exact", torch.float64), fitted(None, torch.float64))
    assert sum(turns for turns, _ in filled) > 60


def test_large_batches(filled, at_once, monkeypatch):
    """Turns in a row are two launches each where few batches fit, with the same bits."""
    monkeypatch.setattr(ring, "BYTES", 3 * BATCH * 8 * 5)
    assert alike(fitted("exact"), fitted(None))
    assert not filled
    assert sum(at_once) > 60
