"""Equality of state trees: values, types, order and bits, where ``==`` says too little."""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import torch


def alike(one: object, other: object) -> bool:
    """Whether two trees are the same in every way that a checkpoint keeps."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return same_tensor(one, other)
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
            and one.flags.f_contiguous == other.flags.f_contiguous
        )
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, (dict, OrderedDict, Counter, defaultdict)):
        factories = getattr(one, "default_factory", 0) is getattr(other, "default_factory", 0)
        return (
            factories
            and alike(list(one), list(other))
            and alike(list(one.values()), list(other.values()))
        )
    if isinstance(one, (list, tuple, torch.Size, deque)):
        lengths = len(one) == len(other) and getattr(one, "maxlen", 0) == getattr(
            other, "maxlen", 0
        )
        return lengths and all(map(alike, one, other))
    if isinstance(one, (set, frozenset)):
        rest = list(other)
        return len(one) == len(other) and all(any(alike(x, y) for y in rest) for x in one)
    return one == other


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same dtype, shape, flag and bits (a nan equals itself)."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.requires_grad == other.requires_grad
        and bits(one) == bits(other)
    )


def bits(tensor: torch.Tensor) -> bytes:
    """The tensor's elements as bytes, in index order."""
    return (
        tensor.detach()
        .resolve_conj()
        .resolve_neg()
        .contiguous()
        .reshape(-1)
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )


def is_nan(value: object) -> bool:
    """Whether a value is a float nan."""
    return isinstance(value, float) and math.isnan(value)
