"""Transforms of ``torch.func``: inside of them, around each other, and modules with other parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from explainer.recorded import line, recorded_here, said, step

X = torch.arange(12.0).reshape(4, 3)


@pytest.fixture
def model():
    """A small one, and its parameters as tensors."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    return made, {name: one.detach() for name, one in made.named_parameters()}


def test_gradients_of_each_sample(model):
    """A function of several statements under ``vmap(grad(f))``: nothing is read there, all is told."""
    module, parameters = model
    held = []

    def loss_of(given, sample):
        output = functional_call(module, given, (sample,))
        squared = output.square()
        return squared.sum()

    def train():
        for _ in range(3):
            each = vmap(grad(loss_of), in_dims=(None, 0))(parameters, X)
            held.append(each["0.weight"])

    seen = recorded_here(train, steps=2, timed=0)
    assert not any("failed" in note for note in seen.notes)
    (loop,) = [one for one in seen.loops if one.kind != "plain"]
    assert (loop.kind, loop.turns) == ("gradients", 3)
    first = step(seen, 1, "gradients")
    (told, *_) = line(first, seen, "each = ").sentences
    calls = "in each of 4 calls that `vmap` makes as one"
    assert told == f"Gradients of 4 tensors are returned, {calls}; no `.grad` is written."
    assert line(first, seen, "squared = ").sentences == [f"`squared`: 1 float32, {calls}."]
    weight = [one for one in line(first, seen, "each = ").tensors if one.name == "each['0.weight']"]
    assert weight[0].norm == pytest.approx(held[0].double().norm().item())


def test_gradients_by_themselves_have_values(model):
    """Under ``grad`` alone what a statement makes is an ordinary number."""
    module, parameters = model

    def loss_of(given):
        output = functional_call(module, given, (X,))
        return output.square().sum()

    def train():
        for _ in range(2):
            found = grad(loss_of)(parameters)
        return found

    seen = recorded_here(train, steps=1, timed=0)
    (note,) = line(step(seen, 1, "gradients"), seen, "output = ").tensors
    expected = module(X).double()
    assert note.at_once == 1
    assert note.norm == pytest.approx(expected.norm().item())


def function(x):
    """Of three numbers two."""
    return torch.stack([x.prod(), x.sum()])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_jacobians_are_told_once():
    """By the function that the program calls, at its line; of nested ones the outer one."""

    def train():
        weight = torch.ones(2, requires_grad=True)
        for _ in range(1):
            (weight * 2).sum().backward()
            rows = jacrev(function)(X[1])
            columns = jacfwd(function)(X[1])
            second = hessian(function)(X[1])
            left, _ = vjp(function, X[1])
            right = jvp(function, (X[1],), (X[2],))
            each = vmap(jacrev(function))(X)
        return rows, columns, second, left, right, each

    seen = said(recorded_here(train, steps=1, timed=0))
    told = [one.partition(" | ")[2] for one in seen if "no `.grad` is written" in one]
    names = [one.partition("`")[2].partition("`")[0] for one in told]
    assert names == ["jacrev", "jacfwd", "jacfwd", "vjp", "jvp", "jacrev"]


def test_a_module_that_is_called_with_other_parameters(model):
    """It is a forward pass, of that module, and of nothing inside of it."""
    module, _ = model
    given = {name: one.detach().requires_grad_() for name, one in module.named_parameters()}

    def train():
        optimizer = torch.optim.SGD(given.values(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            output = functional_call(module, given, (X,))
            output.square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    note = line(step(seen, 2), seen, "output = ")
    assert note.phases == ["forward"]
    assert note.sentences[0] == (
        "`module` in train mode: 4×3 → 4×1 with 4 tensors in place of its own."
    )
