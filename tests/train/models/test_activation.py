"""Activation checkpointing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.models.activation import checkpoint_activations


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.GELU())
        self.calls = 0

    def forward(self, x, *, scale=1.0):
        self.calls += 1
        return x + scale * self.inner(self.norm(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, scale=0.5)
        return self.head(x)


def train(model: nn.Module, updates: int = 3) -> None:
    """Train in place, with dropout."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(updates):
        optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "which", [(Block,), ("blocks.*",), ("blocks.0", nn.Sequential), ("*inner",)]
)
def test_training_is_bit_equal(which):
    """Weights, running statistics and counters after three updates are those without it."""
    torch.manual_seed(1)
    plain = Net()
    kept = copy.deepcopy(plain)
    handle = checkpoint_activations(kept, *which)
    train(plain)
    train(kept)
    state = kept.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    handle.remove()


def test_the_outermost_match_is_chosen_and_recomputed():
    """Nothing inside a chosen module is chosen again, and backward runs it a second time."""
    model = Net()
    assert checkpoint_activations(model, "blocks.*").names == ["blocks.0", "blocks.1", "blocks.2"]
    train(model, 1)
    assert [block.calls for block in model.blocks] == [2, 2, 2]


def test_eval_runs_once():
    """In eval mode, and without gradients, the forward is the module's own."""
    model = Net()
    checkpoint_activations(model, Block)
    model.eval()(torch.ones(2, 8)).sum().backward()
    with torch.no_grad():
        model.train()(torch.ones(2, 8))
    assert [block.calls for block in model.blocks] == [2, 2, 2]


def test_undone_exactly():
    """remove(), or leaving the handle, gives back the class's forward or the one set before."""
    model = Net()
    own = model.blocks[1].forward
    model.blocks[1].forward = own
    with checkpoint_activations(model, Block) as handle:
        assert "forward" in model.blocks[0].__dict__
    assert "forward" not in model.blocks[0].__dict__
    assert model.blocks[1].forward is own
    handle.remove()
    assert model.blocks[1].forward is own


def test_copies_recompute_their_own():
    """A deep copy of the model runs its own weights, not the original's."""
    model = Net()
    checkpoint_activations(model, Block)
    twin = copy.deepcopy(model)
    train(twin, 1)
    assert model.blocks[0].calls == 0
    assert twin.blocks[0].calls == 2


def test_no_match_is_an_error():
    """A class or a name without a match is an error that says what there is."""
    with pytest.raises(UsageError, match=r"no module is a Conv2d; there are .*Block"):
        checkpoint_activations(Net(), nn.Conv2d)
    with pytest.raises(UsageError, match=r"no module matches 'block\.0'") as caught:
        checkpoint_activations(Net(), "block.0")
    assert caught.value.hint == "did you mean 'blocks.0'?"
