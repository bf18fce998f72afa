"""A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's ``StatefulDataLoader``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from torch.utils.data import DataLoader, IterableDataset

from loopwright.train.data import workers
from loopwright.train.data.draws import Draws
from loopwright.train.data.feed import Account, Counter, Feed, warn_other_order, warn_taken_over
from loopwright.train.data.own_state import OwnState
from loopwright.train.data.stateful_iterator import (
    Position,
    Reports,
    is_read_again,
    is_torchdatas,
    sampler_of,
    sampling,
    without_reading,
)
from loopwright.train.data.workers import garbage_stays, reporting
from loopwright.train.process import randomness

_LEFT: WeakKeyDictionary[DataLoader[Any], Mapping[str, Any]] = WeakKeyDictionary()
"""Loaders whose persistent workers an earlier process had, with where those were."""


class StatefulFeed(Feed):
    """A loader that knows where it is; what it does not know of its workers and samplers is added."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        self._alive = False  # the workers are an earlier epoch's
        self._ours = True  # the workers report
        self._began: dict[int, Any] = {}  # what they had reported when the epoch began
        self._position: Position | None = None  # of a sampler that has no state of its own
        self._draws: Draws | None = None  # of a data set that has to be read again, in this process
        self._read = self._replayed = 0

    @property
    def _is_torchs(self) -> bool:
        return isinstance(self.loader, DataLoader)

    @property
    def _in_workers(self) -> bool:
        return self._is_torchs and self.loader.num_workers > 0

    @property
    def _is_iterable(self) -> bool:
        return self._is_torchs and isinstance(self.loader.dataset, IterableDataset)

    @property
    def _kept(self) -> Any:
        """The iterator of persistent workers; None where there are none."""
        return getattr(self.loader, "_iterator", None) if self._may_persist else None

    @property
    def _may_persist(self) -> bool:
        return self._in_workers and self.loader.persistent_workers

    @property
    def _left(self) -> Mapping[str, Any] | None:
        return _LEFT.get(self.loader) if self._is_torchs else None

    @property
    def _persists(self) -> bool:
        return self._kept is not None or self._left is not None

    def open(self) -> None:
        """Make the iterator, or let persistent workers begin again."""
        self._alive = self._persists
        self._began = self._where_left()["workers"] if self._alive else {}
        if (left := self._left) is not None:
            del _LEFT[self.loader]
            if self._kept is not None:
                warn_taken_over(self.loader)
        if left is not None and self._kept is None:
            # The process that ended the loop before had them: there nothing was drawn to make them.
            with randomness.fork(), OwnState(loader=self.loader).forked():
                self._start_workers(left)
        self._make({})

    def _make(self, states: Mapping[int, Any], sampler: Mapping[str, Any] | None = None) -> None:
        self._draws, self._read, self._replayed = None, 0, 0
        if not self._is_torchs:
            self.iterator = workers.iterator_of(self.loader)
            return
        before = getattr(self.loader, "_iterator", None)
        report = reporting(self.loader, states) if self._in_workers else nullcontext()
        with report, sampling(self.loader, sampler_of(self.loader, sampler)):
            self.iterator = workers.iterator_of(self.loader)
        if self._in_workers:
            if self.iterator is not before:
                Reports(self.iterator, states)
            reports = Reports.of(self.iterator)
            self._ours = reports is not None
            if reports is not None:
                reports.begin()
        position = getattr(self.iterator, "_sampler_iter", None)
        self._position = position if isinstance(position, Position) else None
        if not self._in_workers and self._is_iterable and is_read_again(self.loader.state_dict()):
            self._draws = Draws()

    def _start_workers(self, state: Mapping[str, Any]) -> None:
        """Make the persistent workers that an earlier process had between two epochs."""
        # A stream whose state is given back goes on where it was, but here a new epoch begins.
        place, since = (
            ({}, 0) if self._is_iterable else without_reading(state["loader"], iterable=False)
        )
        self.loader.load_state_dict({} if since else place)
        report = reporting(self.loader, state["workers"])
        with garbage_stays(), report, sampling(self.loader, ()):
            self.loader._iterator = made = self.loader._get_iterator()
        made._index_sampler = sampler_of(self.loader)
        Reports(made, state["workers"])

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Give the loader its state, and the workers the generators that they had there."""
        self._alive, self._began = state["alive"], state["workers"]
        if self._is_torchs:
            _LEFT.pop(self.loader, None)  # what an earlier loop left is long past
        if not state["exact"]:
            warn_other_order(f"the {type(self.loader).__name__} may give other batches", position)
        if not position:
            self._start_workers(state)
            at_start()
            self._make({})
            return
        place, since = without_reading(state["loader"], self._is_iterable)
        self.loader.load_state_dict(place)
        at_start()
        self._make(state["workers"], state["sampler"])
        if self._draws is not None and state["draws"] is not None:
            self._draws.load_state_dict(state["draws"])
            self._replayed = state["read"]
        self._go_forward(count(position if since is None else since), position)

    def fetch(self) -> Any:
        """Return the next batch, drawn as it was before where it is read again."""
        if self._draws is None:
            return next(self.iterator)
        read = self._draws.replay if self._read < self._replayed else self._draws.watch
        batch = read(self._read, self.iterator.__next__)
        self._read += 1
        return batch

    def account(self) -> Account:
        """Return the loader's state after a batch; another one may be fetched before it is saved."""
        state = self.loader.state_dict()
        if not self._in_workers:  # it may be the user's own object, which the next batch changes
            state = copy.deepcopy(state, {} if self._position is None else self._position.lasting)
        reports = Reports.of(self.iterator)
        if reports is None:
            return Account(loader=state)
        again = self._is_iterable and is_read_again(state)
        return Account(workers=dict(self._began if again else reports.saved), loader=state)

    def state_dict(self, account: Account) -> dict[str, Any]:
        """Return the loader's own state, and the workers' generators."""
        between = account.loader is None
        state: dict[str, Any] = {
            "between": between,
            "alive": self._persists if between else self._alive,
            "exact": self._is_exact,
        }
        if between:
            return {**state, **self._where_left()}
        return {
            **state,
            "workers": account.workers or {},
            "loader": account.loader,
            "left": None if self.iterator is not None else self._where_left(),
            "sampler": None if self._position is None else self._position.state_dict(),
            "draws": None if self._draws is None else self._draws.state_dict(),
            "read": self._read,
        }

    def _where_left(self) -> dict[str, Any]:
        """Return where persistent workers are between two epochs, or after a loop that ended inside one."""
        if (left := self._left) is not None:
            return dict(left)
        kept = self._kept
        if (reports := Reports.of(kept)) is None:
            return {"workers": {}, "loader": None}
        # Inside an epoch the loader's own state is not where its workers are: they have read ahead.
        own = None if reports.drained else self.loader.state_dict()
        return {"workers": dict(reports.states), "loader": own}

    @property
    def _is_exact(self) -> bool:
        """Whether going on gives the same batches: from workers of ours, in turn, with all draws noted."""
        noted = self._draws is None or self._draws.exact
        kept = self._kept
        ours = self._ours and (kept is None or Reports.of(kept) is not None)
        return noted and ours and getattr(self.loader, "in_order", True)

    @property
    def restores(self) -> Any:
        """The data set that the loader gives its state, where it is read in this process."""
        data = self.loader.dataset if is_torchdatas(self.loader) else None
        return None if self._in_workers or not hasattr(data, "load_state_dict") else data

    def rest(self) -> None:
        """Let persistent workers end what they have begun."""
        if self.iterator is self._kept and (reports := Reports.of(self.iterator)) is not None:
            reports.drain()

    def leave(self, state: dict[str, Any]) -> None:
        """Let the loader's next workers begin where the ones of an ended loop were."""
        left = state if state["between"] else state["left"]
        if left is not None and self._may_persist and Reports.of(self._kept) is None:
            _LEFT[self.loader] = {name: left[name] for name in ("workers", "loader")}
