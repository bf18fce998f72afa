"""Numbers of an optimizer that have become denormal, by a clock that the test turns."""

from __future__ import annotations

import itertools

import pytest
import torch

from loopwright.checker.accounts.books import Accounts
from loopwright.checker.rules.waits import DenormalOptimizerState
from loopwright.checker.session import Session
from loopwright.events import Event
from loopwright.observe.sites import Site
from loopwright.observe.watch import ThreadState

DENORMAL = 1e-40


def clock(*, slow_us, fast_us=2.0):
    """A clock for multiplications in turns, first of the numbers as they are."""
    now = itertools.accumulate(itertools.cycle((0, slow_us, 0, fast_us)))
    return lambda: next(now) / 1e6


def stepped(
    *, share=0.5, slow_us=40.0, step_ms=2.0, size=40_000, steps=512, others=0, dtype=torch.float32
):
    """Messages about an Adam whose first moment is denormal in part from its first step on."""
    weight = torch.ones(size, dtype=dtype, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.Adam([weight])
    optimizer.step()
    optimizer.state[weight]["exp_avg"][: int(share * size)] = torch.finfo(dtype).tiny / 8
    more = [torch.optim.SGD([torch.ones(2, requires_grad=True)]) for _ in range(others)]
    accounts = Accounts(ThreadState())
    accounts.denormals.clock = clock(slow_us=slow_us)
    here = Site(stepped.__code__, 0, (stepped.__code__, 0))
    for number in range(1, steps + 1):
        for one in (optimizer, *more):
            event = Event("step", here, number, one)
            accounts.optimizers.before_step(event)
            accounts.denormals.after_step(event)
            accounts.waits.steps += 1
            accounts.waits.seconds += step_ms / 1000
    return [one.message for one in DenormalOptimizerState().findings(accounts)]


def test_what_they_cost_is_told():
    """Their share, how much slower they are, and what two multiplications of each number lose of a step."""
    (message,) = stepped()
    assert message == (
        "50 % of the 40,000 numbers in Adam's exp_avg are denormal (below 1.2e-38), "
        "and this machine multiplies them 20 times slower: at least 0.093 ms of a 2 ms step"
    )


def test_of_float64():
    """Each type has its own smallest number."""
    (message,) = stepped(dtype=torch.float64)
    assert "denormal (below 2.2e-308)" in message


def test_what_nobody_waits_for():
    """Few of them, a machine that is as fast with them, a step that takes long, a small state, few steps."""
    assert stepped(share=0.005) == []
    assert stepped(slow_us=2.9) == []
    assert stepped(step_ms=4) == []
    assert stepped(size=20_000, slow_us=20, step_ms=0.5) == []
    assert stepped(steps=250) == []


def test_optimizers_in_turns():
    """A step lasts from one of an optimizer's own to the next."""
    (message,) = stepped(others=1, step_ms=1)
    assert message.endswith("of a 2 ms step")
    assert stepped(others=3, step_ms=1) == []


def test_flushed():
    """Where denormals are zeros for the processor there are none, also in a state that was made before."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't flush them")
    try:
        assert stepped() == []
    finally:
        torch.set_flush_denormal(False)


def trained(session, steps, *, denormal_from):
    """Train with an optimizer that is gone afterwards."""
    weight = torch.ones(5000, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for number in range(steps):
        optimizer.zero_grad()
        (0 * weight[:2]).sum().backward()
        optimizer.step()
        if number == denormal_from:
            optimizer.state[weight]["momentum_buffer"].fill_(DENORMAL)
            assert session.observer.resting


def test_seen_in_a_window():
    """It is looked at in what is seen of a long training, and what is found outlives the optimizer."""
    session = Session()
    session.accounts.denormals.clock = clock(slow_us=40)
    session.start()
    try:
        trained(session, 2060, denormal_from=2030)
    finally:
        session.end()
    assert session.observer.failure is None
    ((found,),) = [one.slow for one in session.accounts.denormals.latest()]
    assert (found.name, found.share) == ("momentum_buffer", 1)
