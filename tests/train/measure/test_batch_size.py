"""The largest batch that fits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.measure.batch_size import _largest, find_batch_size
from loopwright.train.mishaps.memory import out_of_memory


@given(room=st.integers(1, 3000), start=st.integers(1, 3000), limit=st.integers(1, 3000))
def test_the_largest_that_fits_is_found(room, start, limit):
    """Whatever the start, the answer is the room, or the limit where that is smaller."""
    start = min(start, limit)
    tried = []

    def fits(size):
        tried.append(size)
        return size <= room

    assert _largest(fits, start, limit) == min(room, limit)
    assert max(tried) <= limit
    assert len(tried) == len(set(tried))
    assert len(tried) <= 26


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("any"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_mean_memory(error, expected):
    """Only errors about memory count as not fitting."""
    assert out_of_memory(error) is expected


def test_a_real_allocation_fails():
    """What this machine's torch raises for an impossible tensor is understood."""

    def try_step(size):
        if size > 64:
            torch.empty(size * 2**50)

    assert find_batch_size(try_step) == 64


def test_another_error_is_the_callers():
    """A mistake in the step is raised as it is, and the model is put back all the same."""
    model = nn.Linear(1, 1)
    before = model.weight.item()

    def try_step(size):
        model.weight.data.add_(1)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        find_batch_size(try_step, model=model)
    assert model.weight.item() == before


def test_model_and_optimizer_are_put_back():
    """Full training steps of every size leave weights, state and generators as they were."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()

    def try_step(size):
        if size > 10:
            raise MemoryError
        optimizer.zero_grad()
        model(torch.randn(size, 3)).sum().backward()
        optimizer.step()

    assert find_batch_size(try_step, model=model, optimizer=optimizer) == 10
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_fits():
    """Not even one sample, or a start outside the limit, is an error."""

    def never(size):
        raise MemoryError

    with pytest.raises(UsageError, match="not even"):
        find_batch_size(never, start=8)
    with pytest.raises(UsageError, match="start=9"):
        find_batch_size(never, start=9, limit=8)
