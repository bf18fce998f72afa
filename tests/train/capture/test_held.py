"""A program that changes what a recording holds goes on with its own numbers."""

from __future__ import annotations

import pytest
import torch
from small import dataset, make
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

import loopwright as lw


def both(between, *, net=None, optimizer=torch.optim.Adam, epochs=3):
    """Train with capture and without, and call ``between`` after each turn; the step, and both results."""
    results = []
    for capture in (True, False):
        lw.seed(0)
        model = (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
            if net is None
            else net()
        )
        run = make(model=model, optimizer=lambda p: optimizer(p, lr=0.05))
        train = run.compile_step(lambda b, run=run: F.mse_loss(run.model(b[0]), b[1]))
        for step in run.loop(DataLoader(dataset(48), batch_size=4, shuffle=True), epochs=epochs):
            (train if capture else train.as_it_stands)(step)
            between(run, step)
        results.append((train, [t.clone() for t in model.state_dict().values()]))
    (captured, got), (_, expected) = results
    return captured, all(map(torch.equal, got, expected))


def forget_all(run, step):
    if step.index == 18:
        run.optimizer.state.clear()


def begin_moments_anew(run, step):
    if step.index == 18:
        for state in run.optimizer.state.values():
            state["exp_avg"] = torch.zeros_like(state["exp_avg"])


def another_buffer(run, step):
    if step.index == 18:
        run.model[1].running_mean = run.model[1].running_mean + 1


def another_parameter(run, step):
    if step.index == 18:
        old, new = run.model[2].bias, nn.Parameter(torch.ones(1))
        run.model[2].bias = new
        group = run.optimizer.param_groups[0]
        group["params"] = [new if p is old else p for p in group["params"]]


@pytest.mark.parametrize(
    "between", [forget_all, begin_moments_anew, another_buffer, another_parameter]
)
def test_another_tensor(between):
    """Where a tensor is another one, the step is recorded anew."""
    kind = torch.optim.SGD if between is another_parameter else torch.optim.Adam
    train, equal = both(between, optimizer=kind)
    assert train.why_not is None
    assert train.replayed > 12
    assert equal


class Centred(nn.Module):
    """Puts a new tensor in its buffer's place at each call; the loss doesn't look at it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.linear(x)


def test_another_buffer_each_time():
    """A graph would leave the buffer where it was."""
    train, equal = both(lambda *_: None, net=Centred)
    assert "another tensor each time" in train.why_not
    assert equal


def test_hooks_of_the_middle():
    """A graph calls no hook, whenever it comes: an optimizer's own, and one for all optimizers."""
    for register in (
        lambda run, hook: run.optimizer.register_step_post_hook(hook),
        lambda run, hook: register_optimizer_step_pre_hook(hook),
    ):
        handles = []

        def shrink(optimizer, *_):
            for p in optimizer.param_groups[0]["params"]:
                p.data.mul_(0.9)

        def between(run, step, register=register, handles=handles, shrink=shrink):
            if step.index == 18:
                handles.append(register(run, shrink))
            if step.index == 22:
                handles.pop().remove()

        train, equal = both(between)
        assert "hooks" in train.why_not
        assert train.replayed > 5
        assert equal


class TwoHeads(nn.Module):
    """Another head for small batches."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        return self.large(x) if len(x) == 4 else self.small(x)


def test_others_train_a_part():
    """Adam's bias corrections are those of each parameter, whoever has made its updates."""

    def between(run, step):
        if step.index == 18:
            parts = run.optimizer.param_groups[0]["params"]
            for p in parts[:2]:
                run.optimizer.state[p]["step"] += 3
            run.stepper.windows["optimizer"].updates += 3

    train, equal = both(between)
    assert train.why_not == "the optimizer's parameters have made different numbers of updates"
    assert equal


def test_two_heads():
    """A head that comes late has made fewer updates."""
    results = []
    for capture in (True, False):
        lw.seed(0)
        run = make(model=TwoHeads(), optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
        train = run.compile_step(lambda b, run=run: F.mse_loss(run.model(b[0]), b[1]))
        order = [[*range(i % 20, i % 20 + (3 if i == 14 else 4))] for i in range(24)]
        for step in run.loop(DataLoader(dataset(), batch_sampler=order), epochs=1):
            (train if capture else train.as_it_stands)(step)
        results.append([t.clone() for t in run.model.state_dict().values()])
        if capture:
            assert train.replayed > 5
            assert "different numbers of updates" in train.why_not
    assert all(map(torch.equal, *results))
