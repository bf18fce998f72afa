"""A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's ``StatefulDataLoader``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from loopwright.train.data.feed import NOTHING, Account, Counter, Feed
from loopwright.train.data.workers import Reported, reporting


class StatefulFeed(Feed):
    """A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's ``StatefulDataLoader``."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        self._states: dict[int, Any] = {}

    def open(self) -> None:
        """Make the iterator."""
        self._states = {}
        self._make()

    def _make(self) -> None:
        if isinstance(self.loader, DataLoader) and self.loader.num_workers > 0:
            with reporting(self.loader, self._states):
                self.iterator = iter(self.loader)
        else:
            self.iterator = iter(self.loader)

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Give the loader its state, and the workers the generators that they had there."""
        del count  # the loader goes on by itself
        at_start()
        self._states = dict(state["workers"])
        if position:
            self.loader.load_state_dict(state["loader"])
        self._make()

    def fetch(self) -> Any:
        """Return the next batch."""
        batch = next(self.iterator)
        if isinstance(batch, Reported):
            if batch.state is not None:
                self._states[self.iterator._last_yielded_worker_id] = batch.state
            return batch.batch
        return batch

    def account(self) -> Account:
        """Return the loader's state after a batch, where another one may be fetched before it is saved."""
        if not self.looks_ahead:
            return NOTHING
        return Account(workers=dict(self._states), loader=self.loader.state_dict())

    def state_dict(self, account: Account) -> dict[str, Any]:
        """Return the loader's own state, and the workers' generators."""
        if self.looks_ahead and self.iterator is not None:
            return {"workers": account.workers or {}, "loader": account.loader}
        state: dict[str, Any] = {"workers": dict(self._states)}
        if self.iterator is not None:
            state["loader"] = self.loader.state_dict()
        return state
