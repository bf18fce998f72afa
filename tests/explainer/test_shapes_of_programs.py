"""Programs in shapes that people write: several optimizers, one of their own, nested batches."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.long

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
"""
SEVERAL = f"""{HEAD}
a, b = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.0))
optimizers = [torch.optim.SGD([dict(params=[a.weight], lr=0.2), dict(params=[a.bias])], lr=0.1),
              torch.optim.SGD(b.parameters(), lr=0.1)]
for turn in range(4):
    loss = F.cross_entropy(b(a(torch.randn(8, 4))), torch.randint(2, (8,)))
    for one in optimizers: one.zero_grad()
    loss.backward()
    for one in optimizers: one.step()
a.eval().requires_grad_(False)
print(bool(loss < 100), torch.stack([loss, loss]).tolist())
"""
OWN = f"""{HEAD}
class Plain(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, dict(lr=0.1))
    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            p -= 0.1 * p.grad
model = nn.Linear(4, 2)
optimizer = Plain(model.parameters())
data = [{{"inputs": {{"x": torch.randn(8, 4)}}, "y": torch.randint(2, (8,))}} for _ in range(3)]
for batch in torch.utils.data.DataLoader(data, batch_size=None):
    optimizer.zero_grad()
    F.cross_entropy(model(batch["inputs"]["x"]), batch["y"]).backward()
    optimizer.step()
"""


def said(lines):
    """All sentences of some lines."""
    return " ".join(one for line in lines for one in line.sentences)


def test_steps_of_several_optimizers_are_one_step(explained):
    """The loop over optimizers is a part of the step whose gradients they use, and so are the what-ifs."""
    told = explained(SEVERAL)
    (loop,) = told.loops
    assert (loop.kind, loop.turns) == ("training", 4)
    assert [row[0] for row in told.steps[1].brief] == [
        "zero_grad", "forward", "loss", "backward", "step"]  # fmt: skip
    assert {one.name for one in told.steps[1].whatifs} >= {"half the learning rate"}
    assert "dropout" not in said(told.steps[1].lines)
    setup = said(told.setup)
    assert "in 2 groups (group 0: lr 0.2; group 1: lr 0.1)" in setup
    assert "2 tensors of 20 numbers are set to require no gradient" in setup
    assert "Python bool: `True`" in setup
    assert "A tensor becomes 2 plain Python numbers." in setup


def test_an_optimizer_of_ones_own_moves_parameters(explained):
    """What its lines move is not moved without an optimizer; nested batches are told of whole."""
    told = explained(OWN)
    first = said(told.steps[0].lines)
    assert "without an optimizer" not in first
    assert "No parameter moved" not in first
    assert "Its own code moves the parameters, in line 13." in first
    assert "`batch['inputs']['x']` 8×4 float32" in first
    (row,) = [row for row in told.steps[0].brief if row[0] == "step"]
    assert row[2].startswith("‖Δp‖")
