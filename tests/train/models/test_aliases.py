"""Clones that stay neighbours."""

from __future__ import annotations

import torch

from loopwright.train.models.aliases import clone_together


def test_neighbours_stay_neighbours():
    """Slices of one chunk are cloned into one chunk, at the same distances."""
    flat = torch.arange(12.0)
    parts = [flat[6:].view(2, 3), flat[:4], flat[4:6]]
    copies = clone_together(parts)
    assert all(torch.equal(a, b) for a, b in zip(parts, copies, strict=True))
    assert len({copy.untyped_storage().data_ptr() for copy in copies}) == 1
    assert copies[0].data_ptr() - copies[1].data_ptr() == 24
    copies[1].zero_()
    assert torch.equal(flat, torch.arange(12.0))


def test_overlapping_tensors_are_cloned_apart():
    """A change of one clone never reaches another, even where the originals share memory."""
    flat = torch.arange(4.0)
    first, second = clone_together([flat, flat[1:]])
    first.zero_()
    assert torch.equal(second, torch.tensor([1.0, 2.0, 3.0]))


def test_strange_tensors_are_cloned_one_by_one():
    """Transposed, empty, sparse and lone tensors get a plain clone; a far slice does not copy its base."""
    base = torch.arange(1000.0)
    given = [
        torch.ones(2, 3).t(),
        torch.empty(0),
        torch.empty(0),
        torch.eye(2).to_sparse(),
        base[:1],
        base[-1:],
    ]
    copies = clone_together(given)
    assert [tuple(copy.shape) for copy in copies] == [(3, 2), (0,), (0,), (2, 2), (1,), (1,)]
    assert copies[4].untyped_storage().nbytes() == 4
