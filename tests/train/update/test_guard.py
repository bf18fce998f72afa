"""The engine steps an optimizer without torch's wrapper only where nobody would miss it."""

from __future__ import annotations

import functools

import pytest
import torch
from small import equal, loader, make, network, train, weights
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import loopwright as lw


def counted(calls):
    """A hook that counts."""
    return lambda *_: calls.append(1)


def hooked_before(optimizer, calls):
    """A hook of the user's on the optimizer."""
    return optimizer.register_step_pre_hook(counted(calls)).remove


def hooked_after(optimizer, calls):
    """One that is called afterwards."""
    return optimizer.register_step_post_hook(counted(calls)).remove


def hooked_all_before(optimizer, calls):
    """One for all optimizers of the process."""
    return register_optimizer_step_pre_hook(counted(calls)).remove


def hooked_all_after(optimizer, calls):
    """The same, afterwards."""
    return register_optimizer_step_post_hook(counted(calls)).remove


def replaced(optimizer, calls):
    """``optimizer.step`` replaced by a function that calls it."""
    inner = optimizer.step

    def step(*args):
        calls.append(1)
        return inner(*args)

    optimizer.step = step
    return lambda: optimizer.__dict__.pop("step")


def decorated(optimizer, calls):
    """The class's step decorated, with ``functools.wraps``, which copies torch's mark."""
    kind, inner = type(optimizer), type(optimizer).step

    @functools.wraps(inner)
    def step(*args):
        calls.append(1)
        return inner(*args)

    kind.step = step
    return lambda: setattr(kind, "step", inner)


LISTENERS = [
    hooked_before,
    hooked_after,
    hooked_all_before,
    hooked_all_after,
    replaced,
    decorated,
]


@pytest.mark.parametrize("listen", LISTENERS, ids=lambda f: f.__name__)
def test_whoever_listens_is_told_of_every_step(listen):
    """Hooks, replaced and decorated steps are called once an update; the weights are the same."""
    model, calls = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    stop = listen(optimizer, calls)
    try:
        run = make(model=model, optimizer=optimizer)
        turns = train(run)
    finally:
        stop()
    assert len(calls) == len(turns) == 6
    plain = make()
    train(plain)
    assert equal(weights(run), weights(plain))


def test_a_profile_has_every_step():
    """While a profile is taken, the steps are in it by name."""
    run = make()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(run)
    (found,) = [event for event in profile.key_averages() if event.key == "Optimizer.step#SGD.step"]
    assert found.count == 6


def each_step(optimizer):
    """A schedule that would warn of steps that nobody made."""
    return torch.optim.lr_scheduler.StepLR(optimizer, 1)


@pytest.mark.parametrize("scheduler", [None, lw.per_update(each_step)], ids=["", "scheduled"])
def test_otherwise_it_is_left_out(scheduler):
    """With nobody listening the function that torch wraps is called itself; a scheduler is content."""
    run = make(scheduler=scheduler)
    (optimizer,) = run.optimizers.values()
    seen = []
    for step in run.loop(loader(), epochs=1):
        x, y = step.batch
        step.backward(torch.nn.functional.mse_loss(run.model(x), y))
        seen.append(run.stepper.guard.is_unheard(optimizer))
        step.update()
    assert seen == [True] * 6


class Twice(torch.optim.SGD):
    """Steps as its base class does."""

    def step(self, closure=None):
        return super().step(closure)


def test_a_step_that_calls_its_base_class():
    """It is the run's own step, not one behind its back."""
    run, plain = make(optimizer=lambda p: Twice(p, lr=0.05)), make()
    for one in (run, plain):
        train(one)
    assert equal(weights(run), weights(plain))
