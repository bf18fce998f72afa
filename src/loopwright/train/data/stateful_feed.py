"""A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's ``StatefulDataLoader``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from loopwright.train.data.feed import NOTHING, Account, Counter, Feed
from loopwright.train.data.forking import iterator_of
from loopwright.train.data.workers import Reported, reporting


class StatefulFeed(Feed):
    """A loader that knows where it is; its workers' generators, which it does not know, are reported."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        self._states: dict[int, Any] = {}
        self._alive = False

    @property
    def _in_workers(self) -> bool:
        return isinstance(self.loader, DataLoader) and self.loader.num_workers > 0

    @property
    def _persists(self) -> bool:
        kept = getattr(self.loader, "_iterator", None)
        return self._in_workers and self.loader.persistent_workers and kept is not None

    def open(self) -> None:
        """Make the iterator, or let persistent workers begin again."""
        self._alive = self._persists
        if not self._alive:
            self._states = {}
        self._make()

    def _make(self) -> None:
        if not self._in_workers:
            self.iterator = iterator_of(self.loader)
            return
        with reporting(self.loader, self._states):
            self.iterator = iterator_of(self.loader)
        if not isinstance(getattr(self.iterator, "_process_data", None), _Unwrapping):
            self.iterator._process_data = _Unwrapping(self.iterator._process_data, self)

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Give the loader its state, and the workers the generators that they had there."""
        del count  # the loader goes on by itself
        self._alive, self._states = state["alive"], dict(state["workers"])
        if "loader" in state:
            self.loader.load_state_dict(state["loader"])
        if self._alive and not position:
            # The loader at the end of an epoch, with its workers; then the next epoch begins as it did.
            with reporting(self.loader, self._states):
                self.loader._iterator = self.loader._get_iterator()
        at_start()
        self._make()

    def account(self) -> Account:
        """Return the loader's state after a batch, where another one may be fetched before it is saved."""
        if not self.looks_ahead:
            return NOTHING
        return Account(workers=dict(self._states), loader=self.loader.state_dict())

    def state_dict(self, account: Account) -> dict[str, Any]:
        """Return the loader's own state, and the workers' generators."""
        ahead = self.looks_ahead and self.iterator is not None
        state: dict[str, Any] = {
            "alive": self._alive if self.iterator is not None else self._persists,
            "workers": account.workers or {} if ahead else dict(self._states),
        }
        if ahead:
            state["loader"] = account.loader
        elif self.iterator is not None or state["alive"]:
            state["loader"] = self.loader.state_dict()
        return state


class _Unwrapping:
    """Stands in for an iterator's ``_process_data``: the workers' reports go to the feed."""

    def __init__(self, process: Callable[..., Any], feed: StatefulFeed):
        self._process = process
        self._feed = feed

    def __call__(self, data: Any, worker: int, *rest: Any) -> Any:
        data = self._process(data, worker, *rest)
        if not isinstance(data, Reported):
            return data
        if data.state is not None:
            self._feed._states[worker] = data.state
        return data.batch
