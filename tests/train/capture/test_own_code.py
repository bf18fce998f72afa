"""Steps whose Python code draws, counts or looks at values: the plain loop's bits, captured or not."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw

BATCH, SAMPLES, EPOCHS = 32, 32 * 12, 5
LITTLE = 0.26
"""Norm of gradients that few turns come below."""


class WholeSteps(torch.optim.SGD):
    """Counts in tensors of whole numbers."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr, foreach=True)

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("step", torch.tensor(0)).add_(1)
        return super().step(closure)


class PlainSteps(torch.optim.Optimizer):
    """Counts in Python, as many optimizers do that are no part of torch."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                parameter.add_(parameter.grad, alpha=-group["lr"] / state["step"])


class Decaying(torch.optim.SGD):
    """Does something at each fifth update, which it counts in an attribute."""

    count = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        if self.count % 5 == 0:
            torch._foreach_mul_(self.param_groups[0]["params"], 0.99)
        return super().step(closure)


class InItsGroup(Decaying):
    """Counts in its group."""

    @torch.no_grad()
    def step(self, closure=None):
        (group,) = self.param_groups
        group["count"] = group.get("count", 0) + 1
        if group["count"] % 5 == 0:
            torch._foreach_mul_(group["params"], 0.99)
        return torch.optim.SGD.step(self, closure)


class Looking(torch.optim.AdamW):
    """Doubles gradients that are small, as they are in the end."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr, foreach=True)

    @torch.no_grad()
    def step(self, closure=None):
        grads = [parameter.grad for parameter in self.param_groups[0]["params"]]
        if torch.stack(torch._foreach_norm(grads)).norm().item() < LITTLE:
            torch._foreach_mul_(grads, 2.0)
        return super().step(closure)


class Draws(nn.Module):
    """A layer that is left out at random, by Python."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x):
        return self.inner(x) if random.random() < 0.5 else x


class Sparse(nn.Module):
    """Gives a sparse gradient, after normalizing and dropping."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 16, sparse=True)
        self.rest = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.2))

    def forward(self, x):
        return self.rest(self.table((x > 0).long().sum(1) % 8))


def fitted(capture, made, first=nn.Identity, *, asks=False):
    """Fit; returns the run and all that must be equal."""
    lw.seed(0)
    net = nn.Sequential(first(), nn.Linear(16, 4))
    optimizer = made(net.parameters(), lr=0.05)
    x = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(3))
    y = x[:, :4].argmax(1)
    run = lw.fit(
        net, optimizer, nn.CrossEntropyLoss(),
        DataLoader(TensorDataset(x.requires_grad_(asks), y), BATCH, shuffle=True),
        epochs=EPOCHS, capture=capture, progress=False,
    )  # fmt: skip
    state = [
        torch.as_tensor(v) for s in optimizer.state.values() for v in s.values() if v is not None
    ]
    counts = [getattr(optimizer, "count", 0), optimizer.param_groups[0].get("count", 0)]
    found = [
        *(tensor.detach() for tensor in net.state_dict().values()), *state, torch.tensor(counts),
        torch.tensor(run.history.series["loss"].y), torch.rand(2), torch.tensor(random.random()),
    ]  # fmt: skip
    return run, found if x.grad is None else [*found, x.grad]


def sgd(parameters, lr):
    """Its numbers stand still."""
    return torch.optim.SGD(parameters, lr=lr, foreach=True)


def adamw(parameters, lr):
    """Its numbers move."""
    return torch.optim.AdamW(parameters, lr=lr, foreach=True)


CASES = {
    "whole steps": {"made": WholeSteps},
    "plain steps": {"made": PlainSteps},
    "an attribute": {"made": Decaying},
    "a group": {"made": InItsGroup},
    "a look at gradients": {"made": Looking},
    "draws": {"made": adamw, "first": Draws},
    "draws with sgd": {"made": sgd, "first": Draws},
    "a sparse gradient": {"made": sgd, "first": Sparse},
    "gradients of the batch": {"made": adamw, "asks": True},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("device", ["cpu", "accelerator"])
def test_same_bits(device, case, request):
    """Weights, state, counts, losses and draws are the plain loop's."""
    if device == "accelerator":
        request.getfixturevalue("kernels")
    _, expected = fitted(None, **case)
    run, got = fitted("exact", **case)
    assert len(got) == len(expected)
    assert all(map(torch.equal, got, expected)), run.notes
