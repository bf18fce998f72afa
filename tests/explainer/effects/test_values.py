"""Reading tensors: exact numbers, whatever dtype, layout or size, without leaving a trace."""

from __future__ import annotations

import math

import pytest
import torch

from loopwright.explainer.effects import values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_norms_are_taken_in_float64(dtype):
    """The norm of many small numbers is that of their float64 copies."""
    tensor = torch.full((300, 500), 1e-2, dtype=dtype)
    assert values.norm(tensor) == pytest.approx(tensor.double().norm().item(), rel=1e-12)


def test_differences():
    """The norm of a difference is that of a float64 difference, in pieces and for transposed tensors too."""
    torch.manual_seed(0)
    old = torch.randn(3, 7).t()
    new = (old + 1e-6).contiguous().t().contiguous().t()
    assert values.difference(new, old) == pytest.approx(
        (new.double() - old.double()).norm().item(), rel=1e-12
    )


def test_pieces(monkeypatch):
    """What is longer than a piece gives the same as in one."""
    torch.manual_seed(0)
    new, old = torch.randn(1000), torch.randn(1000)
    whole, size = values.difference(new, old), values.norm(new)
    monkeypatch.setattr(values, "PIECE", 64)
    assert values.difference(new, old) == pytest.approx(whole, rel=1e-14)
    assert values.norm(new) == pytest.approx(size, rel=1e-14)


def test_a_summary():
    """Shape, extremes, zeros and what is not finite are exact; a small tensor is shown whole."""
    note = values.summary(torch.tensor([0.0, -2.0, math.nan, math.inf]), "x")
    assert (note.shape, note.dtype, note.zeros, note.nonfinite) == ([4], "float32", 1, 2)
    assert note.values[1] == -2.0
    big = torch.arange(100_000).float().reshape(100, 1000)
    note = values.summary(big, "big")
    assert (note.low, note.high, note.zeros, note.bytes) == (0.0, 99_999.0, 1, 400_000)
    assert note.norm == pytest.approx(big.double().norm().item())
    assert note.mean == pytest.approx(big.double().mean().item(), rel=1e-3)
    assert sum(note.histogram) == note.sampled


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(0),
        torch.tensor(True),
        torch.tensor([1 + 2j]),
        torch.ones(2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.tensor([1, 2], dtype=torch.uint8),
    ],
    ids=["empty", "bool", "complex", "meta", "sparse", "bytes"],
)
def test_unusual_tensors(tensor):
    """Every kind has at least a shape."""
    assert values.summary(tensor, "x").shape == list(tensor.shape)


def test_gradients_of_leaves_and_of_those_that_keep_them():
    """A leaf, and a tensor that was asked to, tell the norm of their gradient; others have none."""
    x = torch.ones(3, requires_grad=True)
    y = 2 * x
    z = y * 1
    y.retain_grad()
    z.sum().backward()
    assert values.summary(x, "x").grad == pytest.approx(math.sqrt(12))
    assert values.summary(y, "y").grad == pytest.approx(math.sqrt(3))
    assert values.summary(y, "y").retains
    assert values.summary(z, "z").grad is None
    assert not values.summary(z, "z").retains


def test_no_trace():
    """Looking bumps no version, builds no graph, draws nothing."""
    x = torch.randn(5, requires_grad=True)
    before, state = x._version, torch.get_rng_state()
    values.summary(x, "x")
    assert x._version == before
    assert torch.equal(torch.get_rng_state(), state)
