"""What the iterators of a ``StatefulDataLoader`` are given beside its own state.

torchdata's loader saves where its sampler and its data set are, if these can say so themselves. It does
not save the workers' generators, knows nothing of samplers without a state that draw from the process's
generators, and reads a data set without a state again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from loopwright.train.data.draws import Draws
from loopwright.train.data.feed import warn_other_order
from loopwright.train.data.order import draws_at_once
from loopwright.train.data.own_state import OwnState
from loopwright.train.data.workers import Reported, outstanding
from loopwright.train.process import randomness


class Reports:
    """Stands in for an iterator's ``_process_data`` for as long as it lives: keeps what workers report.

    Persistent workers outlive the loop, and so do their reports.

    Attributes:
        states: what each worker reported with the last of its batches that was handed out.
        saved: the same where the loader's own state stands, which is some batches behind with
            ``snapshot_every_n_steps`` above 1.
        drained: a loop that ended inside an epoch had the workers end what they had begun.
    """

    def __init__(self, iterator: Any, states: Mapping[int, Any]):
        self._iterator = weakref.ref(iterator)  # a cycle would keep its workers until a collection
        self.states = dict(states)
        self.begin()
        iterator._process_data = self

    def begin(self) -> None:
        """Note that an epoch begins."""
        self._snapshot = getattr(self._iterator(), "_snapshot", None)
        self.saved = dict(self.states)
        self.drained = False

    @staticmethod
    def of(iterator: Any) -> Reports | None:
        """Return those of an iterator; None where its workers do not report."""
        found = getattr(iterator, "_process_data", None)
        return found if isinstance(found, Reports) else None

    def __call__(self, data: Any, worker: int, *rest: Any) -> Any:
        """Process what a worker sent, as the iterator does, and return the batch alone."""
        iterator: Any = self._iterator()
        data = type(iterator)._process_data(iterator, data, worker, *rest)
        if isinstance(data, Reported):
            if data.state is not None:
                self.states[worker] = data.state
            data = data.batch
        snapshot = getattr(iterator, "_snapshot", None)
        if snapshot is None or snapshot is not self._snapshot:
            self._snapshot, self.saved = snapshot, dict(self.states)
        return data

    def drain(self) -> None:
        """Wait for the batches that are under way and drop them: persistent workers go on from there."""
        self.drained = True
        for worker, data in outstanding(self._iterator()):
            data = data[0] if isinstance(data, tuple) else data
            if isinstance(data, Reported) and data.state is not None:
                self.states[worker] = data.state


class Positioned:
    """A sampler that has no state, with one: torchdata asks its iterator for it, and gives it back.

    Args:
        inner: the sampler.
        known: the last state of an earlier process, which may have drawn further than it handed out.
    """

    def __init__(self, inner: Any, known: Mapping[str, Any] | None = None):
        self.inner = inner
        self.known = known

    def __iter__(self) -> Position:
        return Position(self)


class Position:
    """One epoch of such a sampler: where all generators were when it began, and how far it is."""

    def __init__(self, sampler: Positioned):
        self._sampler = sampler
        self._own = OwnState(sampler=sampler.inner)
        # torch's samplers draw their whole order when they are asked for the first index. The iterator,
        # which is still being made, draws a seed for its workers before.
        self._at_once = draws_at_once(_that_draws(sampler.inner))
        self._begin()
        self._draws = Draws()
        self._drawn = 0
        self._items = self._watched(0)

    def _begin(self) -> None:
        self._start = {"random": randomness.snapshot(), "own": self._own.capture()}

    def _watched(self, replayed: int) -> Iterator[Any]:
        inner = iter(self._sampler.inner)
        return inner if self._at_once else self._draws.over(inner, replayed)

    def __iter__(self) -> Position:
        return self

    @property
    def lasting(self) -> dict[int, Any]:
        """What is in every state of the epoch and never changes: need not be copied, by ``id``."""
        return {id(part): part for part in self._start.values()}

    def __next__(self) -> Any:
        if self._at_once and not self._drawn:
            self._begin()
        item = next(self._items)
        self._drawn += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch began, the draws that others came before, and the position."""
        return {**self._start, "draws": self._draws.state_dict(), "drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw again what was drawn, as it was drawn."""
        known = self._sampler.known or state
        self._start = {"random": state["random"], "own": state["own"]}
        randomness.restore(state["random"])
        self._own.restore(state["own"])
        self._draws, self._drawn = Draws(), state["drawn"]
        self._draws.load_state_dict(known["draws"])
        if not self._draws.exact:
            name = type(self._sampler.inner).__name__
            warn_other_order(f"the {name} may give another order", self._drawn)
        self._items = self._watched(known["drawn"])
        for _ in range(self._drawn):
            next(self._items)


def is_torchdatas(loader: Any) -> bool:
    """Whether a loader is torchdata's ``StatefulDataLoader``."""
    return isinstance(loader, DataLoader) and any(
        kind.__module__.startswith("torchdata.") for kind in type(loader).__mro__
    )


def sampler_of(loader: DataLoader[Any], known: Mapping[str, Any] | None = None) -> Any:
    """Return what a loader's iterators shall draw their indices from; see `Positioned`."""
    inner = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    if not is_torchdatas(loader) or isinstance(loader.dataset, IterableDataset):
        return inner
    own = _that_draws(inner)  # of a BatchSampler: torchdata's asks it
    at_home = type(own).__module__.startswith("torchdata.") or type(own) is SequentialSampler
    stateful = any(hasattr(one, "load_state_dict") for one in (inner, own))
    return inner if at_home or stateful else Positioned(inner, known)


def _that_draws(sampler: Any) -> Any:
    """Return the sampler under a plain ``BatchSampler``, torch's or torchdata's; any other itself."""
    plain = type(sampler).__name__ == "BatchSampler" and _is_theirs(sampler)
    return sampler.sampler if plain else sampler


def _is_theirs(thing: Any) -> bool:
    return f"{type(thing).__module__}.".startswith(("torch.", "torchdata."))


@contextmanager
def sampling(loader: DataLoader[Any], sampler: Any) -> Iterator[None]:
    """Let the iterators that the block makes draw their indices from ``sampler``."""
    name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
    kept = vars(loader)[name]
    vars(loader)[name] = sampler  # torch refuses to set these two
    try:
        yield
    finally:
        vars(loader)[name] = kept


def without_reading(state: dict[str, Any] | None, iterable: bool) -> tuple[Any, int | None]:
    """Split a loader's state into one that it takes up without reading, and what is to be read then.

    Args:
        state: what ``state_dict`` returned; of any loader.
        iterable: the data set is an ``IterableDataset``.

    Returns:
        The state, and the batches from there to the position; ``({}, None)`` where all has to be read
        from the epoch's beginning, since nothing that is read has a state.
    """
    if state is None:
        return {}, 0
    if iterable and is_read_again(state):
        return {}, None
    since = state.get("_steps_since_snapshot", 0)
    return ({**state, "_steps_since_snapshot": 0} if since else state), since


def is_read_again(state: dict[str, Any]) -> bool:
    """Whether torchdata goes on in an ``IterableDataset`` by reading it again: nothing in it has a state."""
    if "_iterator_finished" not in state:
        return False  # not torchdata's
    places = state["_snapshot"]["_worker_snapshots"].values() if "_snapshot" in state else [state]
    return not any(
        place["dataset_state"] is not None
        or (place["fetcher_state"] or {}).get("dataset_iter_state") is not None
        for place in places
    )
