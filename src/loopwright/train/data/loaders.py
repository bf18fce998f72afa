"""What a loop takes for a loader, and how many batches it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from loopwright.errors import DataError, UsageError


class Spent:
    """Stands in for an iterator that has been read to its end."""

    def __iter__(self) -> Iterator[Any]:
        raise DataError(
            "the data ended: an iterator can be read once, and a second epoch was asked for",
            slug="iterator-spent",
            hint="pass a function that makes the iterator: run.loop(lambda: batches(), epochs=2)",
        )


def as_loader(loader: Any, batch_size: int | None, shuffle: bool) -> Any:
    """Return something that can be iterated over once an epoch.

    Raises:
        UsageError: no loader, or a batch size for something that has its own.
    """
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        if batch_size is None:
            raise UsageError(
                f"a {type(loader).__name__} gives single samples, and no batch size was given",
                slug="dataset-without-batch-size",
                hint="run.loop(dataset, batch_size=32, shuffle=True, …) or a DataLoader",
            )
        return DataLoader(loader, batch_size=batch_size, shuffle=shuffle)  # type: ignore[arg-type]
    if batch_size is not None or shuffle:
        raise UsageError(
            f"batch_size and shuffle are for data sets; a {type(loader).__name__} has its own",
            slug="batch-size-of-a-loader",
        )
    if isinstance(loader, (str, bytes, torch.Tensor, dict)) or (
        not isinstance(loader, Iterable)
        and not callable(loader)
        and not hasattr(loader, "__getitem__")
    ):
        raise UsageError(
            f"a loop needs a loader that gives batches, got {_name(loader)}",
            slug="not-a-loader",
            hint="a DataLoader, a list of batches, or a function that returns an iterator",
        )
    if inspect.isgeneratorfunction(loader) or (
        callable(loader) and not isinstance(loader, Iterable)
    ):
        return _Factory(loader)
    return loader


def kind_of(loader: Any) -> str:
    """Return what a message calls a loader: its class, or the function that makes its iterator."""
    if isinstance(loader, _Factory):
        name = getattr(loader.make, "__name__", type(loader.make).__name__)
        return "lambda" if name == "<lambda>" else f"function {name}"
    return type(loader).__name__


def _name(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r:.60}"


class _Factory:
    """A function that makes one epoch's iterator."""

    def __init__(self, make: Callable[[], Iterable[Any]]):
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        made = self.make()
        if not isinstance(made, Iterable):
            raise UsageError(
                f"{getattr(self.make, '__name__', 'the function')}() returned "
                f"{_name(made)}, not batches",
                slug="not-a-loader",
            )
        return iter(made)


def length_of(loader: Any) -> int | None:
    """Return the batches of an epoch; None where only the end itself tells.

    Raises:
        DataError: the loader is empty.
    """
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return (
            None  # its __len__ is a guess: workers that were not told apart give every item twice
        )
    try:
        length = len(loader)
    except (TypeError, NotImplementedError):
        return None
    if length == 0:
        raise DataError(
            f"the {type(loader).__name__} is empty{_why_empty(loader)}",
            slug="empty-loader",
        )
    return length


def _why_empty(loader: Any) -> str:
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, Sized) and len(loader.dataset):
        return (
            f": {len(loader.dataset)} samples make no batch of {loader.batch_size} "
            "with drop_last=True"
        )
    return ""
