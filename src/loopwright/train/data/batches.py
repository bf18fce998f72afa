"""Nested batches: find the tensors in a batch of any shape, count its samples, move it.

A batch is a tensor, or a tuple, list, dict, namedtuple, dataclass or object with ``.to`` of batches;
anything else in it (a string, a number, None) is passed on as it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from loopwright.errors import DataError


def map_tensors(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``batch`` with ``change`` applied to each tensor and each object with ``.to``.

    Containers are rebuilt only where something inside changed, so a batch that is already where it
    belongs is returned as the very same object.
    """
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        items = {key: map_tensors(value, change) for key, value in batch.items()}
        if all(items[key] is batch[key] for key in items):
            return batch
        if type(batch) is dict:
            return items
        if callable(getattr(batch, "to", None)):  # e.g. a tokenizer's BatchEncoding
            return change(batch)
        return _rebuild_mapping(batch, items)
    if isinstance(batch, (tuple, list)):
        if callable(getattr(batch, "to", None)):  # a PackedSequence, whose lengths stay on the CPU
            return change(batch)
        parts = [map_tensors(part, change) for part in batch]
        if all(new is old for new, old in zip(parts, batch, strict=True)):
            return batch
        if isinstance(batch, tuple):
            return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
        return type(batch)(parts)
    if callable(getattr(batch, "to", None)) and not isinstance(batch, type):
        return change(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return _rebuild_dataclass(batch, change)
    return batch


def _rebuild_mapping(batch: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    if isinstance(
        batch, dict
    ):  # a copy keeps what its constructor would not: a defaultdict's factory
        new = copy.copy(batch)
        new.update(items)
        return new
    try:
        return type(batch)(items)  # type: ignore[call-arg]
    except TypeError:  # a mapping whose constructor takes something else
        return items


def _rebuild_dataclass(batch: Any, change: Callable[[Any], Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(batch)]
    values = {name: map_tensors(getattr(batch, name), change) for name in fields}
    if all(values[name] is getattr(batch, name) for name in fields):
        return batch
    # Not dataclasses.replace: it calls __init__ and __post_init__, and refuses init=False fields.
    new = object.__new__(type(batch))
    new_dict = getattr(batch, "__dict__", None)
    if new_dict is not None:
        new.__dict__.update(new_dict)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new


def tensors(batch: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a batch, in order; objects with ``.to`` are not looked into."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors(value)
    elif isinstance(batch, (tuple, list)):
        for part in batch:
            yield from tensors(part)
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from tensors(getattr(batch, field.name))


def count_samples(batch: Any) -> int | None:
    """Return the first dimension of the first tensor; None where there is no tensor with one."""
    # The two usual shapes first: this runs at every turn.
    if type(batch) in (tuple, list) and batch and type(batch[0]) is torch.Tensor and batch[0].ndim:
        return batch[0].shape[0]
    for tensor in tensors(batch):
        if tensor.ndim:
            return tensor.shape[0]
    return None


def count_tokens(batch: Any) -> int | None:
    """Return the number of elements of the first integer tensor with two dimensions or more."""
    for tensor in tensors(batch):
        if tensor.ndim >= 2 and not tensor.is_floating_point() and not tensor.is_complex():
            return tensor.numel()
    return None


def tokens_of(batch: Any) -> int:
    """Return ``count_tokens`` of a batch; a ``DataError`` where there are none to count."""
    tokens = count_tokens(batch)
    if tokens is None:
        raise DataError(
            "tokens= counts the first integer tensor with two dimensions, and the batch has none",
            slug="no-tokens",
        )
    return tokens
