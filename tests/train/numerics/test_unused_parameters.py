"""Parameters without a gradient stay exactly as they are, whatever momentum and weight decay say."""

from __future__ import annotations

import pytest
import torch
from material import quiet_run, state, worst
from torch import nn

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


class Branches(nn.Module):
    """Two branches, of which a batch uses one."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x, side):
        return getattr(self, side)(x)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_row_19_zero_gradients_move_unused_parameters(name):
    """A branch that a turn did not use is not moved in it, not even by the momentum it has."""
    torch.manual_seed(0)
    model = Branches()
    run = quiet_run(model=model, optimizer=OPTIMIZERS[name](model.parameters()))
    for step in run.loop([torch.randn(5, 4) for _ in range(4)], epochs=1):
        used, idle = ("left", "right") if step.index % 2 else ("right", "left")
        before, moved = state(getattr(model, idle)), state(getattr(model, used))
        step.backward(run.model(step.batch, used).square().mean())
        step.update()
        assert worst(state(getattr(model, idle)), before) == 0.0
        assert worst(state(getattr(model, used)), moved) > 0.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_row_19_gradients_of_zero_would_be_seen(name):
    """The comparison can fail: with zeros instead of None the same optimizers move the idle branch."""
    torch.manual_seed(0)
    model = Branches()
    optimizer = OPTIMIZERS[name](model.parameters())
    for side in ("left", "right"):
        optimizer.zero_grad(set_to_none=False)
        before = state(model.left)
        model(torch.randn(5, 4), side).square().mean().backward()
        optimizer.step()
    assert worst(state(model.left), before) > 0.0
