"""Where batches come from: loaders of any kind behind one face that knows lengths and positions.

The order of draws is the plain loop's: the loader's iterator is made where ``for`` would make it,
and a batch is fetched where ``for`` would fetch it. One batch is fetched ahead only where the end of
the epoch cannot be known otherwise (see ``Source.length``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from loopwright.errors import DataError, UsageError
from loopwright.train import randomness
from loopwright.train.bulk import gather_in_bulk

_DRAW_AT_ONCE = (
    SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler
)  # fmt: skip
"""Samplers that draw when they begin, or from a generator of their own; others may at any batch."""


class Source:
    """One loader, ready to give epochs of batches.

    Attributes:
        length: batches in an epoch; None where only the end itself tells (an ``IterableDataset``,
            a generator), in which case the loop fetches one batch ahead.
        position: batches of this epoch that were handed out.
    """

    def __init__(self, loader: Any, *, batch_size: int | None = None, shuffle: bool = False):
        self.loader = _as_loader(loader, batch_size, shuffle)
        self.length = _length(self.loader)
        self.position = 0
        self._once = isinstance(self.loader, Iterator)
        self._iterator: Iterator[Any] | None = None
        self._epoch_start: dict[str, Any] | None = None
        self._resume: dict[str, Any] | None = None

    @property
    def samples_per_epoch(self) -> int | None:
        """Samples in one epoch where the loader can say so."""
        if not isinstance(self.loader, DataLoader) or self.length is None:
            return None
        size = self.loader.batch_size
        if size is None:
            return None
        sampler = self.loader.sampler
        total = len(sampler) if isinstance(sampler, Sized) else None
        if total is None:
            return None
        return self.length * size if self.loader.drop_last else total

    def describe(self) -> dict[str, Any]:
        """Return what tells one data set from another: kind, batches, samples, batch size."""
        dataset = getattr(self.loader, "dataset", None)
        facts: dict[str, Any] = {"loader": type(self.loader).__name__, "batches": self.length}
        if isinstance(self.loader, DataLoader):
            facts["batch_size"] = self.loader.batch_size
        if dataset is not None:
            facts["dataset"] = type(dataset).__name__
            if isinstance(dataset, Sized) and not isinstance(dataset, IterableDataset):
                facts["samples"] = len(dataset)
        return facts

    @property
    def quiet(self) -> bool:
        """Whether fetching a batch, after an epoch's first, surely draws nothing in this process."""
        loader = self.loader
        if not isinstance(loader, DataLoader) or self.length is None:
            return False
        if type(loader.sampler) not in _DRAW_AT_ONCE or type(loader.batch_sampler) not in (
            BatchSampler, type(None)
        ):  # fmt: skip
            return False
        if loader.num_workers > 0:
            return True
        dataset = loader.dataset
        while type(dataset) is Subset:
            dataset = dataset.dataset
        return type(dataset) is TensorDataset and loader.collate_fn is default_collate

    @property
    def resumes_inside(self) -> bool:
        """Whether the next ``start_epoch`` goes to a position inside an epoch."""
        return self._resume is not None

    # -- one epoch ---------------------------------------------------------------------------

    def start_epoch(self, device: torch.device) -> None:
        """Make the loader's iterator, as ``for`` does; draws what the loader draws.

        After ``load_state_dict`` the first call goes to the position that was saved instead, and
        the caller restores the generators afterwards.
        """
        resume, self._resume = self._resume, None
        if resume is not None and "loader" in resume:
            self.loader.load_state_dict(resume["loader"])
            self._epoch_start = None
            self._iterator = iter(self.loader)
            self.position = resume["position"]
            return
        if resume is not None:
            randomness.restore(resume["random"], device)
            for generator, state in zip(self.generators(), resume["generators"], strict=True):
                generator.set_state(state)
        self._epoch_start = {
            "random": randomness.snapshot(device),
            "generators": [generator.get_state() for generator in self.generators()],
        }
        self._iterator = iter(self.loader)
        gather_in_bulk(self.loader, self._iterator)
        self.position = 0
        if resume is not None:
            self._skip(resume["position"])

    def fetch(self) -> Any:
        """Return the next batch; raises StopIteration at the epoch's end."""
        assert self._iterator is not None, "start_epoch() comes first"
        return next(self._iterator)

    def close(self) -> None:
        """Let go of the iterator, and so of its workers."""
        self._iterator = None

    def epoch_ended(self) -> None:
        """Note that the epoch is over; a source that can be read only once says so when asked again."""
        self.position = 0
        self._epoch_start = None
        if self._once:
            self.loader = _Spent()
        self._iterator = None

    def generators(self) -> tuple[torch.Generator, ...]:
        """Return the torch generators that belong to the loader and its samplers, each once."""
        return loader_generators(self.loader)

    def _skip(self, count: int) -> None:
        """Go forward ``count`` batches without handing them out."""
        iterator = self._iterator
        # One process: only the sampler moves on, nothing is loaded. With workers (whose own
        # generators have to move too) and for other iterables the batches are fetched and dropped.
        ahead = getattr(iterator, "_next_index", None)
        if (
            isinstance(self.loader, DataLoader)
            and type(iterator).__name__ == "_SingleProcessDataLoaderIter"
            and not isinstance(self.loader.dataset, IterableDataset)
            and ahead is not None
        ):
            for _ in range(count):
                ahead()
            iterator._num_yielded += count  # type: ignore[union-attr]
        else:
            for done in range(count):
                try:
                    next(iterator)  # type: ignore[arg-type]
                except StopIteration:
                    raise DataError(
                        f"the loader gave {done} batches where {count} had been trained on "
                        "before the interruption",
                        slug="data-changed",
                        hint="the data must be the same to go on; start anew with resume='never'",
                    ) from None
        self.position = count

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data, together with what makes this epoch's order."""
        state: dict[str, Any] = {
            "position": self.position,
            "generators_now": [generator.get_state() for generator in self.generators()],
        }
        if self.position and self._has_state():
            state["loader"] = self.loader.state_dict()
        elif self.position and self._epoch_start is not None:
            state.update(self._epoch_start)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position; the next ``start_epoch`` goes there."""
        self._resume = state if state["position"] else None

    def restore_generators(self, state: dict[str, Any]) -> None:
        """Put the loader's own generators where ``state_dict`` found them."""
        for generator, value in zip(self.generators(), state["generators_now"], strict=True):
            generator.set_state(value)

    def _has_state(self) -> bool:
        return callable(getattr(self.loader, "state_dict", None)) and callable(
            getattr(self.loader, "load_state_dict", None)
        )


def loader_generators(loader: Any) -> tuple[torch.Generator, ...]:
    """Return the torch generators of a loader, its sampler and its batch sampler, each once."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    holders = (
        loader,
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
    )
    found: list[torch.Generator] = []
    for holder in holders:
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not g for g in found):
            found.append(generator)
    return tuple(found)


class _Spent:
    """Stands in for an iterator that has been read to its end."""

    def __iter__(self) -> Iterator[Any]:
        raise DataError(
            "the data ended: an iterator can be read once, and a second epoch was asked for",
            slug="iterator-spent",
            hint="pass a function that makes the iterator: run.loop(lambda: batches(), epochs=2)",
        )


def _as_loader(loader: Any, batch_size: int | None, shuffle: bool) -> Any:
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


def _name(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r:.60}"


class _Factory:
    """A function that makes one epoch's iterator."""

    def __init__(self, make: Callable[[], Iterable[Any]]):
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        made = self._make()
        if not isinstance(made, Iterable):
            raise UsageError(
                f"{getattr(self._make, '__name__', 'the function')}() returned "
                f"{_name(made)}, not batches",
                slug="not-a-loader",
            )
        return iter(made)


def _length(loader: Any) -> int | None:
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
