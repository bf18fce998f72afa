"""Anything that has to be read again: an ``IterableDataset``, a generator, a loader of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from loopwright.train.data import workers
from loopwright.train.data.draws import Draws
from loopwright.train.data.feed import (
    Account,
    Counter,
    Feed,
    is_torchs,
    warn_other_order,
    warn_taken_over,
)
from loopwright.train.data.sums import batch_sum
from loopwright.train.data.workers import Workers


class StreamFeed(Feed):
    """Anything that has to be read again: an ``IterableDataset``, a generator, a loader of one's own."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        self._draws: Draws | None = None
        self._count = self._sum = 0
        self._known: dict[str, Any] | None = (
            None  # an earlier process's state, until caught up with
        )
        self._alive = False
        self._states: dict[int, Any] = {}  # of the workers, when the epoch began

    @property
    def _in_workers(self) -> bool:
        return is_torchs(self.loader) and self.loader.num_workers > 0

    def open(self) -> None:
        """Make the iterator, or let persistent workers begin again."""
        self._count = self._sum = 0
        self._draws = self._known = None
        if not self._in_workers:
            self.iterator = workers.iterator_of(self.loader)
            if not isinstance(self.loader, Sequence):  # a list of batches draws nothing
                self._draws = Draws()
            return
        if workers.taken_over(self.loader):
            warn_taken_over(self.loader)
        self._alive = workers.are_alive(self.loader)
        self._states = workers.reported(self.loader)
        self._start_workers(None)

    def _start_workers(self, states: dict[int, Any] | None) -> None:
        self.iterator = workers.start(self.loader, states)
        if isinstance(self.iterator, Workers):
            self.iterator.begin(iter)

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Read ``position`` batches again and drop them."""
        self._count = self._sum = 0
        self._draws = None
        self._known = state
        if self._in_workers:
            self._alive, self._states = state["alive"], state["workers"]
            workers.drop(self.loader)
            if not state["exact"]:
                warn_other_order("the persistent workers may give other batches", position)
            if self._alive:  # they were there when the epoch began: making them is no part of it
                self.iterator = workers.start(self.loader, self._states)
                at_start()
                self.iterator.begin(iter)
            else:
                at_start()
                self._start_workers(self._states)
        else:
            at_start()
            self.iterator = workers.iterator_of(self.loader)
            if state["draws"] is not None:
                self._draws = Draws()
                self._draws.load_state_dict(state["draws"])
        if isinstance(self.loader, Sequence):
            self.iterator = islice(self.iterator, position, None)
            self._count, self._sum, self._known = state["count"], state["sum"], None
            return
        self._go_forward(count(position), position)

    def fetch(self) -> Any:
        """Return the next batch, drawn as it was before where it is read again."""
        if self._draws is None:
            batch = next(self.iterator)
        else:
            read = self._draws.watch if self._known is None else self._draws.replay
            batch = read(self._count, self.iterator.__next__)
        self._count += 1
        self._sum = batch_sum(batch, self._sum)
        if self._known is not None and self._count == self._known["count"]:
            self._caught_up(self._known)
        return batch

    def rest(self) -> None:
        """Let persistent workers end what they have begun."""
        if self._in_workers:
            workers.rest(self.iterator, self.loader)

    def leave(self, state: dict[str, Any]) -> None:
        """Let the loader's next workers begin where the ones of an ended loop were."""
        if self._in_workers:
            workers.leave(self.loader, state)

    def end_epoch(self) -> None:
        """Forget what was read."""
        super().end_epoch()
        self._count = self._sum = 0
        self._draws = None

    def _caught_up(self, known: dict[str, Any]) -> None:
        self._known = None
        if self._sum != known["sum"]:
            warn_other_order(f"the {type(self.loader).__name__} gives other batches", self._count)
        elif self._draws is not None and not self._draws.exact:
            warn_other_order(
                "the data draws from the process's generators between the training's draws, more often "
                "than was noted, and may give other batches", self._count,
            )  # fmt: skip

    def state_dict(self, account: Account) -> dict[str, Any]:  # noqa: ARG002
        """Return how much was read, a sum over it, and the notes for reading it again."""
        loader = self.loader if self._in_workers else None
        between = self._count == 0
        return {
            "alive": workers.are_alive(loader) if between else self._alive,
            "workers": workers.reported(loader) if between else dict(self._states),
            "left": workers.reported(loader),
            "exact": not workers.are_anothers(loader),
            "count": self._count,
            "sum": self._sum,
            "draws": None if self._draws is None else self._draws.state_dict(),
        }
