"""A sum over a little of each batch, cheap enough for every turn: tells whether a stream gives the same."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from loopwright.train.data.batches import tensors

ELEMENTS = 16
"""Elements of each tensor that are looked at; 2 µs a tensor."""


def batch_sum(batch: Any, before: int) -> int:
    """Return ``before`` with a batch's shapes and first elements added; tensors on a device by shape."""
    total = before
    for tensor in tensors(batch):
        total = zlib.crc32(repr(tuple(tensor.shape)).encode(), total)
        plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
        if plain and tensor.numel() and not tensor.is_quantized:
            row = tensor.detach()[(0,) * (tensor.ndim - 1)].resolve_conj().resolve_neg()
            first = row.reshape(-1)[:ELEMENTS].clone()  # numpy() would mark the batch's own memory
            total = zlib.crc32(first.view(torch.uint8).numpy().data, total)
    return total
