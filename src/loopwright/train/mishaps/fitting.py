"""Samples of which no batch can be made: which two differ and in what, or which holds what no tensor is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from loopwright.errors import DataError
from loopwright.train.mishaps import describe


def does_not_fit(samples: list[tuple[Any, Any]], where: str | None) -> DataError | None:
    """Return what is wrong with samples that torch could not collate; None if nothing is seen.

    Args:
        samples: with their indices.
        where: the place of the data set's code.
    """
    if not samples:
        return None
    (first, pattern), *others = samples
    for index, sample in samples:
        if (path := _no_tensor(sample)) is not None:
            name, kind = path
            return DataError(
                f"sample {index} of the data set {name} {kind}, of which no batch can be made",
                slug="uncollatable", where=where,
                hint="return tensors or numbers from __getitem__, or write a collate_fn",
            )  # fmt: skip
    for index, sample in others:
        difference = _differ(pattern, sample)
        if difference is not None:
            there, one, other = difference
            return DataError(
                f"samples {first} and {index} do not fit into one batch: {there} {one} and {other}",
                slug="ragged-batch", where=where,
                hint="cut or pad the samples to one size in __getitem__, or pad each batch in a "
                "collate_fn (torch.nn.utils.rnn.pad_sequence)",
            )  # fmt: skip
    return None


def _no_tensor(sample: Any, path: str = "") -> tuple[str, str] | None:
    """Return where a sample holds what torch's collating does not know, and what that is."""
    kind = type(sample)
    if isinstance(sample, (Tensor, int, float, str, bytes)) or kind.__module__ == "numpy":
        return None
    if isinstance(sample, Exception):
        return None
    if isinstance(sample, Mapping):
        parts: Iterator[tuple[Any, Any]] = iter(sample.items())
    elif isinstance(sample, (tuple, list)):
        parts = iter(enumerate(sample))
    else:
        is_it = "is" if not path else f"has at {path}"
        return is_it, "None" if sample is None else describe.one(sample)
    for key, part in parts:
        found = _no_tensor(part, f"{path}[{key!r}]")
        if found is not None:
            return found
    return None


def _differ(one: Any, other: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return where two samples differ in shape or kind, and how."""
    there = f"at {path} they have" if path else "they are"
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.shape == other.shape and one.device == other.device
        return None if same else (there, describe.tensor(one), describe.tensor(other))
    shapes = [getattr(x, "shape", None) for x in (one, other)]
    if type(one) is not type(other) or shapes[0] != shapes[1]:
        return there, _shown(one), _shown(other)
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return there, f"keys {sorted(map(str, one))}", f"keys {sorted(map(str, other))}"
        parts: Iterator[tuple[Any, Any, Any]] = iter((k, one[k], other[k]) for k in one)
    elif isinstance(one, (tuple, list)):
        if len(one) != len(other):
            return there, f"{len(one)} values", f"{len(other)} values"
        parts = iter((n, a, b) for n, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None
    for key, a, b in parts:
        found = _differ(a, b, f"{path}[{key!r}]")
        if found is not None:
            return found
    return None


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and not isinstance(value, Tensor):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return describe.batch(value)
