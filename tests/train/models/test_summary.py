"""Models in rows."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from loopwright.errors import LoopwrightWarning
from loopwright.train.models.summary import bare, first_tensor, of_models, summary


class Block(nn.Module):
    """Dropout, BatchNorm, a counter that every forward moves, a tied and a frozen weight."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.layers[0].weight
        self.frozen = nn.Linear(4, 2).requires_grad_(False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("replaced", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        self.replaced = torch.rand(3)
        return {"logits": self.frozen(self.tied(self.layers(x))), "noise": torch.rand(1)}


def test_rows_without_an_example():
    """Names, classes, depths and parameters need no forward pass; shared ones count once."""
    found = summary(Block())
    rows = {row.name: row for row in found.rows}
    assert [row.name for row in found.rows][:3] == ["", "layers", "layers.0"]
    assert rows["layers.0"].depth == 2
    assert rows["layers.1"].kind == "BatchNorm1d"
    assert (found.name, found.parameters, found.trainable) == ("Block", 42, 32)
    assert (rows["layers"].parameters, rows["tied"].parameters) == (28, 20)
    assert (rows["frozen"].parameters, rows["frozen"].trainable) == (10, 0)
    buffers = 4 * 4 + 4 * 4 + 8 + 8 + 3 * 4
    assert found.bytes == 42 * 4 + buffers
    assert found.flops is None
    assert all(row.output_shape is None for row in found.rows)


def test_shapes_and_flops_with_an_example():
    """One forward pass gives every module's shape, and the FLOPs of one sample."""
    found = summary(Block(), torch.randn(5, 4))
    shapes = {row.name: row.output_shape for row in found.rows}
    assert shapes["layers.0"] == [5, 4]
    assert shapes[""] == shapes["frozen"] == [5, 2]
    assert found.flops == 2 * (16 + 16 + 8)


def test_the_example_may_be_positional_or_named():
    """A tuple is positional arguments, a dict keyword arguments; a bare tensor is the one argument."""
    model = nn.Bilinear(2, 3, 1)
    parts = torch.ones(1, 2), torch.ones(1, 3)
    for example in (parts, {"input1": parts[0], "input2": parts[1]}):
        assert summary(model, example).rows[0].output_shape == [1, 1]


def test_nothing_is_left_behind():
    """Modes, buffers (objects and values), gradients, hooks and generators are as before."""
    model = Block()
    model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    buffers = {name: (t, t.clone()) for name, t in model.named_buffers()}
    torch.manual_seed(3)
    random.seed(3)
    summary(model, torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    drawn = torch.rand(3), random.random()
    torch.manual_seed(3)
    random.seed(3)
    assert torch.equal(drawn[0], torch.rand(3))
    assert drawn[1] == random.random()
    assert [module.training for module in model.modules()] == modes
    for name, tensor in model.named_buffers():
        assert tensor is buffers[name][0]
        assert torch.equal(tensor, buffers[name][1])
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_autocast_keeps_its_gradients():
    """Inside an autocast region a summary before the forward pass costs no weight its gradient."""
    model = nn.Linear(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        summary(model, torch.ones(1, 3))
        model(torch.ones(4, 3)).sum().backward()
    assert model.weight.grad is not None


def test_a_failing_forward_is_a_warning():
    """What the forward raises is said, and the rows come without shapes; nothing is left behind."""
    model = nn.Linear(3, 2)
    with pytest.warns(LoopwrightWarning, match="no shapes.*RuntimeError"):
        found = summary(model, torch.ones(1, 4))
    assert found.parameters == 8
    assert found.rows[0].output_shape is None
    assert model.training
    assert not model._forward_hooks


def test_lazy_models_stay_lazy():
    """A module whose shapes are not known yet is not run: that would draw its first weights."""
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    found = summary(model, torch.ones(1, 4))
    assert found.parameters == 8
    assert torch.nn.parameter.is_lazy(model[0].weight)


def test_wrappers_are_looked_into():
    """A compiled model is summarised as the module inside, without compiling anything."""
    model = nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    assert bare(compiled) is model
    found = summary(compiled, torch.ones(1, 2))
    assert (found.name, found.rows[0].output_shape) == ("Linear", [1, 2])


def test_first_tensor_looks_into_everything():
    """Tuples, dicts and objects are searched in order."""
    tensor = torch.ones(1)

    class Output:
        def __init__(self):
            self.loss, self.logits = None, tensor

    assert first_tensor([None, {"a": (Output(),)}]) is tensor
    assert first_tensor({"a": 1}) is None


def test_several_models_are_counted_together():
    """A run's models stand below one row; a part that they share counts once."""
    shared = nn.Linear(4, 4)
    found = of_models(
        {"one": nn.Sequential(shared), "other": nn.Sequential(shared, nn.Linear(4, 2))}
    )
    assert found.name == "one, other"
    assert [row.name for row in found.rows] == ["", "one", "one.0", "other", "other.0", "other.1"]
    assert [row.depth for row in found.rows] == [0, 1, 2, 1, 2, 2]
    assert found.parameters == found.rows[0].parameters == 30
    assert of_models({"model": nn.Linear(4, 4)}).name == "Linear"
