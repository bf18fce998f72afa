"""torch's fused update of an optimizer that was made without it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.update import found_inf
from loopwright.train.update.fused import fuse

KINDS = {
    "sgd": lambda p, **more: torch.optim.SGD(p, lr=0.1, momentum=0.9, **more),
    "adam": lambda p, **more: torch.optim.Adam(p, lr=0.01, **more),
    "adamw": lambda p, **more: torch.optim.AdamW(p, lr=0.01, **more),
    "adagrad": lambda p, **more: torch.optim.Adagrad(p, lr=0.01, **more),
}


def updated(net, optimizer, turns=3):
    """Train a little."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(turns):
        optimizer.zero_grad()
        net(torch.randn(8, 4, generator=draw)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_as_if_made_so(kind):
    """The bits are those of an optimizer that was made with ``fused=True``."""
    net = nn.Linear(4, 3)
    other = copy.deepcopy(net)
    optimizer = KINDS[kind](net.parameters())
    fuse(optimizer)
    assert found_inf.is_taken(optimizer)
    expected = updated(other, KINDS[kind](other.parameters(), fused=True))
    assert all(map(torch.equal, updated(net, optimizer), expected))


@pytest.mark.parametrize("kind", KINDS)
def test_with_state(kind):
    """What it has counted and averaged before stays."""
    net = nn.Linear(4, 3)
    optimizer = KINDS[kind](net.parameters())
    updated(net, optimizer)
    other = copy.deepcopy(net)
    plain = KINDS[kind](other.parameters())
    plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    fuse(optimizer)
    for one, two in zip(updated(net, optimizer), updated(other, plain), strict=True):
        torch.testing.assert_close(one, two)


def test_one_that_has_none():
    """An optimizer without such a kernel is refused by name."""
    with pytest.raises(UsageError, match="RMSprop has no fused update"):
        fuse(torch.optim.RMSprop(nn.Linear(2, 1).parameters()))
