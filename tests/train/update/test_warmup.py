"""Warm-ups in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from loopwright.errors import LoopwrightWarning, UsageError
from loopwright.train.update.warmup import warmup_constant, warmup_cosine, warmup_linear


def optimizer(*lrs: float) -> torch.optim.SGD:
    """Return an optimizer with a group for each learning rate."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs or (1.0,)]
    return torch.optim.SGD(groups)


def sequence(scheduler, sgd, updates: int) -> list[list[float]]:
    """Return the groups' learning rates of so many updates."""
    seen = []
    for _ in range(updates):
        seen.append([group["lr"] for group in sgd.param_groups])
        sgd.step()
        scheduler.step()
    return seen


def cosine(progress: float) -> float:
    """Return half a cosine from 1 to 0."""
    return (1 + math.cos(math.pi * progress)) / 2


@pytest.mark.parametrize(
    ("make", "after"),
    [
        (warmup_cosine, lambda p: 0.1 + 0.9 * cosine(p)),
        (warmup_linear, lambda p: 0.1 + 0.9 * (1 - p)),
    ],
)
def test_lr_sequence_is_the_closed_form(make, after):
    """Every group follows its own learning rate times the equation of the module's page."""
    sgd = optimizer(1.0, 0.3)
    scheduler = make(warmup=4, final=0.1).build(sgd, 20)
    seen = sequence(scheduler, sgd, 20)
    expected = [(t + 1) / 5 for t in range(4)] + [after((t - 4) / 16) for t in range(4, 20)]
    for lrs, factor in zip(seen, expected, strict=True):
        assert lrs == pytest.approx([factor, 0.3 * factor], rel=1e-15)


def test_cosine_without_warmup_is_torchs():
    """With no warm-up the sequence is CosineAnnealingLR's over as many updates."""
    ours, theirs = optimizer(0.7), optimizer(0.7)
    one = sequence(warmup_cosine(warmup=0).build(ours, 30), ours, 30)
    two = sequence(CosineAnnealingLR(theirs, 30), theirs, 30)
    assert torch.tensor(one).allclose(torch.tensor(two), rtol=1e-12)


def test_a_share_of_the_loop_warms_up():
    """A float is a share of the updates, rounded."""
    assert warmup_cosine(0.05).warmup_updates(1000) == 50
    assert warmup_linear(0.1).warmup_updates(14) == 1
    assert warmup_cosine(0.05).factor(49, 1000) == 50 / 51
    assert warmup_cosine(0.05).factor(50, 1000) == 1.0


def test_it_stays_at_the_end():
    """After the last update the learning rate stays at its final value."""
    assert warmup_cosine(0, final=0.2).factor(500, 100) == 0.2
    assert warmup_linear(0).factor(101, 100) == 0.0


def test_constant_needs_no_length():
    """A warm-up of so many updates fits a loop whose length nobody knows."""
    sgd = optimizer()
    scheduler = warmup_constant(2).build(sgd, None)
    assert sequence(scheduler, sgd, 4) == [[1 / 3], [2 / 3], [1.0], [1.0]]
    assert warmup_constant(0.5).needs_length
    with pytest.raises(UsageError, match="number of updates"):
        warmup_constant(0.5).build(optimizer(), None)


@pytest.mark.parametrize("warmup", [-1, -0.1, 1.0, 1.5, math.nan])
def test_impossible_warmups(warmup):
    """A share of one or more, or a negative number, is refused where it is written."""
    with pytest.raises(UsageError, match="warmup is"):
        warmup_cosine(warmup)


@pytest.mark.parametrize("final", [-0.1, 1.1])
def test_impossible_final(final):
    """The final learning rate is a share of the base."""
    with pytest.raises(UsageError, match="final is"):
        warmup_linear(final=final)


def test_a_warmup_longer_than_the_loop_warns():
    """A loop that ends within its warm-up says so."""
    with pytest.warns(LoopwrightWarning, match="never reaches"):
        warmup_cosine(100).build(optimizer(), 50)


def test_state_is_plain_and_resumes_exactly():
    """The state is numbers and words, and the sequence goes on from it to the last bit."""
    whole, first, second = optimizer(0.3), optimizer(0.3), optimizer(0.3)
    expected = sequence(warmup_cosine(5).build(whole, 40), whole, 40)
    scheduler = warmup_cosine(5).build(first, 40)
    seen = sequence(scheduler, first, 17)
    state = scheduler.state_dict()
    for value in state.values():
        parts = value if isinstance(value, list) else [value]
        assert all(part is None or type(part) in (int, float, str) for part in parts)
    resumed = warmup_cosine(5).build(second, 40)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(state)
    assert seen + sequence(resumed, second, 23) == expected


def test_a_changed_length_warns_and_the_new_one_holds():
    """Resumed for more updates, the schedule says so and ends where the new loop does."""
    first, second = optimizer(), optimizer()
    scheduler = warmup_linear(0).build(first, 10)
    sequence(scheduler, first, 5)
    resumed = warmup_linear(0).build(second, 20)
    with pytest.warns(LoopwrightWarning, match="had 10 updates and now has 20"):
        resumed.load_state_dict(scheduler.state_dict())
    second.step()
    resumed.step()
    assert second.param_groups[0]["lr"] == pytest.approx(1 - 6 / 20)


def test_tensor_learning_rates():
    """A capturable optimizer keeps its learning rate in a tensor; it is filled in place."""
    lr = torch.tensor(0.5)
    sgd = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = warmup_linear(0).build(sgd, 4)
    sgd.step()
    scheduler.step()
    assert sgd.param_groups[0]["lr"].item() == 0.375
    assert scheduler.state_dict()["base_lrs"] == [0.5]
