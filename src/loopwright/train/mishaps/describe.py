"""Batches and samples in words: ``float32 (8, 3), int64 (8)``, ``samples 16 to 23``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MOST = 6
"""Parts of a batch, or numbers of samples, that are written out."""


def batch(value: Any) -> str:
    """Return kinds and shapes of everything in a batch, not its values.

    >>> batch((torch.zeros(8, 3), torch.zeros(8, dtype=torch.long)))
    'float32 (8, 3), int64 (8)'
    >>> batch({"ids": torch.zeros(2, 5, dtype=torch.long), "text": "a b"})
    "{ids: int64 (2, 5), text: str 'a b'}"
    """
    if isinstance(value, (tuple, list)):
        return _listed(_part(part) for part in value) or f"an empty {type(value).__name__}"
    return _part(value)


def _part(value: Any) -> str:
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, Mapping):
        return "{" + _listed(f"{key}: {_part(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + _listed(map(_part, value)) + "]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f.name for f in dataclasses.fields(value))
        inside = _listed(f"{name}={_part(getattr(value, name))}" for name in fields)
        return f"{type(value).__name__}({inside})"
    if isinstance(value, str):
        return f"str {value!r:.20}"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return type(value).__name__


def _listed(parts: Iterator[str]) -> str:
    words = [word for _, word in zip(range(MOST + 1), parts, strict=False)]
    return ", ".join([*words[:MOST], "…"] if len(words) > MOST else words)


def tensor(value: Tensor) -> str:
    """Return a tensor's type, shape and, unless that is the CPU, device."""
    shape = ", ".join(map(str, value.shape))
    where = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')} ({shape}){where}"


def one(thing: Any) -> str:
    """Return what kind of thing something is: ``a list``, ``an Image``."""
    name = type(thing).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def samples(indices: Any) -> str | None:
    """Return which samples of the data set these are; None where nobody knows.

    >>> samples([16, 17, 18]), samples([3, 1]), samples(list(range(0, 80, 2)))
    ('samples 16 to 18', 'samples 3, 1', 'samples 0, 2, 4, 6, 8, 10, … (40 in all)')
    """
    if isinstance(indices, Tensor):
        indices = indices.tolist()
    if isinstance(indices, (int, str)):
        return f"sample {indices}"
    if not isinstance(indices, Sequence) or not indices:
        return None
    if len(indices) == 1:
        return f"sample {indices[0]}"
    first = indices[0]
    if isinstance(first, int) and list(indices) == list(range(first, first + len(indices))):
        return f"samples {first} to {indices[-1]}"
    shown = ", ".join(map(str, indices[:MOST]))
    more = f", … ({len(indices)} in all)" if len(indices) > MOST else ""
    return f"samples {shown}{more}"


def sample(indices: Any, row: int) -> str:
    """Return which sample stands in a row of a batch: ``sample 13``, or ``row 5 of the batch``."""
    known = isinstance(indices, (Sequence, Tensor)) and not isinstance(indices, str)
    if not known or not 0 <= row < len(indices):
        return f"row {row} of the batch"
    return f"sample {int(indices[row]) if isinstance(indices, Tensor) else indices[row]}"


def first_nonfinite_input(value: Any, indices: Any = None) -> str | None:
    """Return which input is nan or inf, or that the batch is empty; None where every value is finite.

    nan is named before inf, which a mask may hold on purpose.

    Args:
        value: a batch, as a loop hands it out.
        indices: of its samples, where they are known.

    >>> first_nonfinite_input([torch.tensor([[0.0], [float("nan")]]), torch.zeros(2)], [7, 13])
    'input 0 is nan in 1 of 2 values, first in sample 13'
    >>> first_nonfinite_input(torch.zeros(2))
    """
    found = list(_named_tensors(value))
    for name, part in found:
        if part.numel() == 0:
            return f"{name} is empty: {tensor(part)}"
    for word, test in (("nan", torch.isnan), ("inf", torch.isinf)):
        for name, part in found:
            if not (part.is_floating_point() or part.is_complex()):
                continue
            wrong = test(part.detach())
            count = int(wrong.sum())
            if count:
                row = int(wrong.reshape(len(part), -1).any(1).int().argmax()) if part.ndim else 0
                where = f", first in {sample(indices, row)}" if part.ndim else ""
                return f"{name} is {word} in {count:,} of {part.numel():,} values{where}"
    return None


def _named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the dense tensors of a batch with a name for each: ``input 0``, ``input ids``."""
    if isinstance(value, Tensor):
        if value.layout == torch.strided:
            yield name.strip() or "the input", value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named_tensors(part, f"{name or 'input'} {key}")
    elif isinstance(value, (tuple, list)):
        for number, part in enumerate(value):
            yield from _named_tensors(part, f"{name or 'input'} {number}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _named_tensors(getattr(value, field.name), f"{name or 'input'} {field.name}")
