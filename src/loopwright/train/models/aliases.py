"""Copying tensors that lie beside each other in one storage so that their copies do, too."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["clone_together"]


def clone_together(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Clone ``tensors``; those that are neighbours in one storage stay neighbours in a new one.

    cuDNN keeps the weights of an RNN in one chunk and warns and copies at every call when they are not.
    Tensors that overlap get separate clones, so that changing one in place never changes another's.

    >>> flat = torch.arange(6.0)
    >>> first, second = clone_together([flat[:2], flat[2:]])
    >>> first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    True
    """
    tensors = [tensor.detach() for tensor in tensors]
    groups: dict[tuple[int, torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        plain = type(tensor) is Tensor and tensor.layout == torch.strided
        if plain and tensor.is_contiguous() and tensor.numel():
            key = tensor.untyped_storage().data_ptr()
            groups.setdefault((key, tensor.dtype), []).append(index)
    copies: list[Tensor | None] = [None] * len(tensors)
    for members in groups.values():
        for index, copy in zip(members, _clone_group([tensors[i] for i in members]), strict=True):
            copies[index] = copy
    return [
        tensor.clone() if copy is None else copy
        for tensor, copy in zip(tensors, copies, strict=True)
    ]


def _clone_group(tensors: list[Tensor]) -> list[Tensor | None]:
    """Clone contiguous tensors of one storage into one chunk; None where they overlap or are few."""
    spans = sorted((t.storage_offset(), t.storage_offset() + t.numel()) for t in tensors)
    start, end = spans[0][0], max(stop for _, stop in spans)
    overlap = any(stop > begin for (_, stop), (begin, _) in itertools.pairwise(spans))
    covered = sum(stop - begin for begin, stop in spans)
    if len(tensors) < 2 or overlap or covered * 2 < end - start:
        return [None] * len(tensors)
    chunk = tensors[0].as_strided((end - start,), (1,), start).clone()
    return [chunk.as_strided(t.size(), t.stride(), t.storage_offset() - start) for t in tensors]
