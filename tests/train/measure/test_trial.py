"""Trials that leave nothing behind."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

from loopwright.train.measure.trial import restored


def snapshot(model, optimizer):
    """Copy every bit of both."""
    return copy.deepcopy(
        (
            {**dict(model.named_parameters()), **dict(model.named_buffers())},
            [p.grad for p in model.parameters()],
            [m.training for m in model.modules()],
            optimizer.state_dict(),
        )
    )


def same(a, b) -> bool:
    """Whether two nested structures are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.1)),
        lambda p: torch.optim.LBFGS(p, history_size=2, max_iter=3),
    ],
)
def test_every_bit_is_put_back(make, warm):
    """Weights, buffers, gradients, modes, optimizer and generators are as before, in the same objects."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))
    optimizer = make(list(model.parameters()))
    own = torch.Generator().manual_seed(1)

    def work():
        for _ in range(4):
            x = torch.randn(8, 4, generator=own)

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
        optimizer.param_groups[0]["lr"] = 7.0
        model.eval()
        model[1].running_mean = torch.ones(4)
        random.random()

    if warm:
        work()
        optimizer.param_groups[0]["lr"] = 0.1
        model[0].train()
    before, draws = (
        snapshot(model, optimizer),
        (own.get_state(), torch.get_rng_state(), random.getstate()),
    )
    objects = [id(t) for t in [*model.parameters(), *model.buffers()]]
    with pytest.raises(KeyError), restored(model, optimizer, [own]):
        work()
        raise KeyError
    assert same(snapshot(model, optimizer), before)
    assert [id(t) for t in [*model.parameters(), *model.buffers()]] == objects
    assert torch.equal(own.get_state(), draws[0])
    assert torch.equal(torch.get_rng_state(), draws[1])
    assert random.getstate() == draws[2]
