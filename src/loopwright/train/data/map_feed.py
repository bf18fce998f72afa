"""torch's ``DataLoader`` over a map-style data set: goes on by moving its sampler, without loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, dataloader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from loopwright.train.data import workers
from loopwright.train.data.bulk import Gather, gather_in_bulk
from loopwright.train.data.draws import Draws
from loopwright.train.data.feed import Account, Counter, Feed, warn_other_order, warn_taken_over
from loopwright.train.data.order import Order, ahead, draws_at_its_end, draws_at_once
from loopwright.train.data.workers import Workers


class MapFeed(Feed):
    """torch's ``DataLoader`` over a map-style data set."""

    def __init__(self, loader: DataLoader[Any]):
        super().__init__(loader)
        self._order: Order | None = None
        self._draws: Draws | None = None
        self._alive = False  # the workers are an earlier epoch's
        self._gather: Gather | None = None  # fetches without the iterator's own ``__next__``

    def open(self) -> None:
        """Make the iterator, or let persistent workers begin again."""
        if workers.taken_over(self.loader):
            warn_taken_over(self.loader)
        self._alive = workers.are_alive(self.loader)
        self._make(None)
        self._begin(lambda inner: inner, 0, 0)

    def reopen(
        self, state: dict[str, Any], position: int, at_start: Callable[[], None], count: Counter
    ) -> None:
        """Move the sampler to ``position``, and give the workers the generators that they had there."""
        self._alive = state["alive"]
        workers.drop(self.loader)
        if self._alive:  # they were there when the epoch began: making them is no part of it
            self._make(state["workers"])
            at_start()
        else:
            at_start()
            self._make(state["workers"])
        if not state["exact"]:
            warn_other_order(f"the {type(self.loader).__name__} may give other batches", position)

        def skip(inner: Iterator[Any]) -> Iterator[Any]:
            fast = ahead(self.loader, position)
            if fast is not None:
                return fast
            order = Order(self._watched(inner, state))
            order.go_forward(count(position))
            if order.digest != state["digest"]:
                warn_other_order(f"the {_sampler_name(self.loader)} gives another order", position)
            return order.inner

        self._begin(skip, position, state["digest"])

    def _make(self, states: dict[int, Any] | None) -> None:
        if self.loader.num_workers:
            self.iterator = workers.start(self.loader, states)
        else:
            self.iterator = iter(self.loader)
            gather_in_bulk(self.loader, self.iterator)

    def _begin(
        self, skip: Callable[[Iterator[Any]], Iterator[Any]], position: int, digest: int
    ) -> None:
        gather = getattr(self.iterator, "_dataset_fetcher", None)
        gather = gather if isinstance(gather, Gather) and self._draws_at_once() else None
        if gather is not None and self.there is not None:
            # Rows are on the device already; what comes from the host is pinned when it is sent.
            self.iterator._pin_memory = False

        order = None
        if gather is not None:
            # here: programs whose data are not in memory do without it
            from loopwright.train.data.permutation import permutation_of

            order = permutation_of(self.loader)
        if order is not None and position:
            order.begin(position)  # its draws are drawn now

        def wrap(inner: Iterator[Any]) -> Iterator[Any]:
            if gather is not None and order is not None:
                inner = gather.along(order, position, self.there)
            else:
                inner = skip(inner) if position else self._watched(inner)
                if gather is not None and not draws_at_its_end(self.loader.sampler):
                    inner = gather.ahead(inner, self.there)
            self._order = Order(inner, position, digest)
            return self._order

        self._gather = gather if gather is not None and self._is_plain() else None

        if isinstance(self.iterator, Workers):
            self.iterator.begin(wrap, position)
        elif self.loader.num_workers == 0:
            self.iterator._sampler_iter = wrap(self.iterator._sampler_iter)
            self.iterator._num_yielded = position
        else:
            self._order = None

    def _watched(self, inner: Iterator[Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
        """Let the sampler's draws be noted, where it may draw at any batch."""
        self._draws = None
        if self._draws_at_once():
            return inner
        self._draws = Draws()
        if state is None or state["draws"] is None:
            return self._draws.over(inner)
        self._draws.load_state_dict(state["draws"])
        # With workers the sampler was asked for more batches than were handed out.
        return self._draws.over(inner, state["drawn"])

    def _draws_at_once(self) -> bool:
        batches = self.loader.batch_sampler
        plain = type(batches) in (BatchSampler, type(None))
        return plain and draws_at_once(self.loader.sampler)

    def _is_plain(self) -> bool:
        """Whether the iterator does nothing but sample and fetch."""
        code = _BaseDataLoaderIter.__next__.__code__
        return code.co_filename == dataloader.__file__ and not self.iterator._pin_memory

    def fetch(self) -> Any:
        """Return the next batch."""
        if (
            self._gather is not None and not _is_watched()
        ):  # 8 µs less: the iterator writes itself into profiles
            batch = self._gather.fetch(next(self._order))  # pyrefly: ignore[bad-argument-type]
            self.iterator._num_yielded += 1
            self._order.hand_out(self._gather.numbers)  # pyrefly: ignore[missing-attribute]
            return batch
        batch = next(self.iterator)
        if self._order is not None:
            self._order.hand_out()
        return batch

    def ready(self) -> list[Any]:
        """Return batches to come that are there already."""
        if self._gather is None or _is_watched():
            return []
        assert self._order is not None
        self._order.begin()
        return self._gather.ready()

    def pass_over(self, count: int) -> Account:
        """Take some of the batches that are ready."""
        assert self._gather is not None
        assert self._order is not None
        self._gather.pass_over(count)
        self._order.pass_over(count)
        self.iterator._num_yielded += count
        return self.account()

    def account(self) -> Account:
        """Return the indices of the batch that was fetched last, and what the workers have reported."""
        order = self._order
        if self._gather is not None and order is not None:
            return Account(order.handed, order.digest)
        states = dict(self.iterator.states) if isinstance(self.iterator, Workers) else None
        if order is None:
            return Account(workers=states)
        return Account(order.handed if self._in_order else None, order.digest, states)

    def state_dict(self, account: Account) -> dict[str, Any]:
        """Return the order's sum and notes, and the workers' generators."""
        between = self._order is None and self.iterator is None
        return {
            "alive": workers.are_alive(self.loader) if between else self._alive,
            "workers": workers.reported(self.loader) if between else account.workers or {},
            "left": workers.reported(self.loader),
            "digest": account.digest,
            "drawn": 0 if self._order is None else self._order.drawn,
            "exact": self._is_exact,
            "draws": None if self._draws is None else self._draws.state_dict(),
        }

    @property
    def _is_exact(self) -> bool:
        """Whether going on gives the same batches: workers in turn, and none that others have started."""
        noted = self._draws is None or self._draws.exact
        return noted and self._in_order and not workers.are_anothers(self.loader)

    @property
    def _in_order(self) -> bool:
        return getattr(self.loader, "in_order", True)

    def rest(self) -> None:
        """Let persistent workers end what they have begun."""
        workers.rest(self.iterator, self.loader)

    def leave(self, state: dict[str, Any]) -> None:
        """Let the loader's next workers begin where the ones of an ended loop were."""
        workers.leave(self.loader, state)

    def end_epoch(self) -> None:
        """Forget the order."""
        super().end_epoch()
        self._order = self._draws = None

    @property
    def next_up(self) -> Any:
        """Indices of the samples in the batch that is being fetched."""
        return self._order.next_up if self._order is not None and self._in_order else None


def _is_watched() -> bool:
    """Whether other code stands in the iterator's ``__next__``, to see its batches (0.2 µs)."""
    return "_next_data" not in _BaseDataLoaderIter.__next__.__code__.co_names


def _sampler_name(loader: DataLoader[Any]) -> str:
    batches = loader.batch_sampler
    own = batches if type(batches) not in (BatchSampler, type(None)) else loader.sampler
    return type(own).__name__
