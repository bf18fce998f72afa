"""Norms are those of a plain loop, which clips ``model.parameters()``."""

from __future__ import annotations

import pytest
import torch
from small import make
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def by_kind(model):
    """Decay for weights alone, as most programs do it."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": biases, "weight_decay": 0.0}, {"params": weights}], lr=0.01, weight_decay=0.1
    )


def backwards(model):
    return torch.optim.SGD([*model.parameters()][::-1], lr=0.1)


def data():
    draw = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(320, 8, generator=draw), torch.randint(4, (320,), generator=draw)
    )


def plain(optimizer_of, later):
    """Weights and norms of a loop that is written by hand."""
    model, norms = network(), []
    optimizer = optimizer_of(model)
    for turn, (x, y) in enumerate(DataLoader(data(), 16)):
        if turn == later:
            model.late = nn.Parameter(torch.ones(4))
            optimizer.add_param_group({"params": [model.late]})
        out = model(x) if turn < later else model(x) * model.late
        optimizer.zero_grad()
        F.cross_entropy(out, y).backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()], norms


@pytest.mark.parametrize("optimizer_of", [by_kind, backwards])
@pytest.mark.parametrize("later", [7, 99])
def test_groups_in_another_order(optimizer_of, later):
    """The order is the model's, not that of the optimizer's groups; also where a group comes later."""
    expected, norms = plain(optimizer_of, later)
    model = network()
    run = make(model=model, optimizer=optimizer_of(model), clip=0.5)
    for step in run.loop(DataLoader(data(), 16), epochs=1):
        if step.index == later:
            model.late = nn.Parameter(torch.ones(4))
            run.optimizer.add_param_group({"params": [model.late]})
        x, y = step.batch
        step.backward(F.cross_entropy(model(x) if step.index < later else model(x) * model.late, y))
        step.update()
    assert all(map(torch.equal, model.parameters(), expected))
    assert run.history.series["grad_norm"].y == norms


def test_a_captured_step():
    """It measures in the same order."""
    expected, _ = plain(by_kind, 99)
    model = network()
    run = make(model=model, optimizer=by_kind(model), clip=0.5)
    train = run.compile_step(lambda b: F.cross_entropy(model(b[0]), b[1]))
    for step in run.loop(DataLoader(data(), 16), epochs=1):
        train(step)
    assert train.replayed > 10
    assert all(map(torch.equal, model.parameters(), expected))
