"""Where batches come from: loaders of any kind behind one face that knows lengths and positions.

The order of draws is the plain loop's: the loader's iterator is made where ``for`` would make it,
and a batch is fetched where ``for`` would fetch it. One batch is fetched ahead only where the end of
the epoch cannot be known otherwise (see ``Source.length``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sized
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from loopwright.train.data.feed import NOTHING, Account, Counter, Feed, PlainFeed, is_torchs
from loopwright.train.data.loaders import Spent, as_loader, length_of
from loopwright.train.data.map_feed import MapFeed
from loopwright.train.data.order import draws_at_its_end, draws_at_once
from loopwright.train.data.own_state import OwnState, generators_of, iterators_of
from loopwright.train.data.stream_feed import StreamFeed
from loopwright.train.process import randomness

if TYPE_CHECKING:
    from loopwright.train.data.rows import Rows


class Source:
    """One loader, ready to give epochs of batches.

    Attributes:
        given: the whole loader, of which a rank among several may have a share; ``given_length``
            batches.
        length: batches in an epoch; None where only the end itself tells (an ``IterableDataset``,
            a generator), in which case the loop fetches one batch ahead.
        position: batches of this epoch that were handed out.
        own: the generators and values that belong to the data's objects, and the generators that
            are variables where the loop stands.
        iterators: variables there that only the body knows the position of.
    """

    def __init__(
        self,
        loader: Any,
        *,
        batch_size: int | None = None,
        shuffle: bool = False,
        resumable: bool = True,
        around: FrameType | None = None,
    ):
        self.given = self.loader = as_loader(loader, batch_size, shuffle)
        if getattr(self.loader, "num_workers", 0):
            from loopwright.train.data.travel import check

            check(self.loader)
        self.given_length = self.length = self._length()
        self._take_share()
        self._ends_with_a_draw = draws_at_its_end(getattr(self.loader, "sampler", None))
        self.position = 0
        self.own = OwnState(loader=self.loader, body=generators_of(around))
        self.iterators = iterators_of(around, but=loader)
        self._feed = make_feed(self.loader) if resumable else PlainFeed(self.loader)
        self._fetched: deque[Account] = deque()
        self._account = NOTHING
        self._once = isinstance(self.given, Iterator)
        self._mark: tuple[Account, int] | None = None
        self._epoch_start: dict[str, Any] | None = None
        self._resume: dict[str, Any] | None = None

    def _length(self) -> int | None:
        return length_of(self.loader)

    def _take_share(self) -> None:
        """Let ``loader`` and ``length`` be those of this process; all of it where there is no other."""

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

    @property
    def quiet(self) -> bool:
        """Whether fetching a batch, after an epoch's first, surely draws nothing in this process."""
        loader = self.loader
        if not isinstance(self._feed, MapFeed) or self.length is None:
            return False
        if type(loader.batch_sampler) not in (BatchSampler, type(None)):
            return False
        if not draws_at_once(loader.sampler):
            return False
        if loader.num_workers > 0:
            return True
        dataset = loader.dataset
        while type(dataset) is Subset:
            dataset = dataset.dataset
        return type(dataset) is TensorDataset and loader.collate_fn is default_collate

    @property
    def draws_next(self) -> bool:
        """Whether fetching the next batch may draw from a generator that others have: an epoch's last one."""
        if not self._ends_with_a_draw or self.length is None:
            return False
        return self.fetched >= self.length - 1

    def look_ahead(self) -> None:
        """Prepare for batches that are fetched before the one before them is handed out."""
        self._feed.looks_ahead = True

    def send_chunks(self, there: Rows) -> None:
        """Have the rows of many batches brought to a device at once, where batches are cut from them."""
        self._feed.there = there

    @property
    def owes_batches(self) -> bool:
        """Whether it is a mistake that there was no batch at all: not where the length says so."""
        return self.length != 0

    @property
    def indices(self) -> Any:
        """Indices of the samples in the batch that was handed out last, None where nobody knows them."""
        return _listed(self._account.indices)

    @property
    def next_up(self) -> Any:
        """Indices of the samples in the batch that is being fetched, None where nobody knows them."""
        return _listed(self._feed.next_up)

    # -- one epoch ---------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Let the coming epoch be that one; the plain loader needs no number."""

    def start_epoch(self, device: torch.device | None = None) -> None:
        """Make the loader's iterator, as ``for`` does; draws what the loader draws."""
        # Of the process's generators torch's samplers draw from torch's alone; numpy's takes 50 µs.
        state_of = randomness.torchs if self.quiet else randomness.snapshot
        self._epoch_start = {
            "random": state_of(device),
            "own": self.own.capture(),
            "feed": self._feed.state_dict(NOTHING),
        }
        try:
            self._feed.open()
        except Exception as error:
            self._explain(error)
            raise
        self._set_position(0)

    def resume_epoch(
        self,
        device: torch.device,
        generators: dict[str, Any],
        *,
        before_restore: Callable[[], None],
        count: Counter = range,
    ) -> None:
        """Go on where ``load_state_dict`` said, with every generator as it was there.

        Args:
            device: the run's.
            generators: the process's, where the run goes on.
            before_restore: called at that position, before the generators are put back.
            count: as ``range``, for what takes long.
        """
        state, self._resume = self._resume, None
        assert state is not None, "load_state_dict() comes first"
        now = {"random": generators, "own": state["own"], "feed": state["feed"]}
        begun = state["epoch_start"] is not None  # among ranks also where this one has had no batch
        self._epoch_start = start = state["epoch_start"] if begun else now
        feed = state["feed"]
        if begun or feed.get("alive"):

            def at_start() -> None:
                randomness.restore(start["random"])
                # What loads a state of its own has its attributes at the position before, not after.
                self.own.restore(state["own"])
                self.own.restore(start["own"], but=self._feed.restores)

            self._feed.reopen(feed, state["position"], at_start, count)
            self._set_position(state["position"])
            before_restore()
            # After the iterator, which draws when it is made; but a new epoch's draws are its own.
            if begun:
                self.own.restore(state["own"], but=self._feed.restores)
                randomness.restore(generators, device)
            return
        self.restore(state)
        randomness.restore(generators, device)
        self.start_epoch(device)
        before_restore()

    def fetch(self) -> Any:
        """Return the next batch; raises StopIteration at the epoch's end."""
        try:
            batch = self._feed.fetch()
        except Exception as error:
            ends = isinstance(error, StopIteration)
            if not ends or (self.length is not None and self.fetched < self.length):
                self._explain(error)
            raise
        self._fetched.append(self._feed.account())
        return batch

    def ready(self) -> list[Any]:
        """Return batches to come, in their order, that ``fetch`` would not have to wait for."""
        return self._feed.ready()

    def pass_over(self, count: int) -> None:
        """Hand out as many of the ``ready`` batches as were trained on already."""
        self._account = self._feed.pass_over(count)
        self.position += count

    def _explain(self, error: Exception) -> None:
        """Say which sample it was: by a note, or by raising another error in its place."""
        from loopwright.train.mishaps.fetching import explain

        explained = explain(error, self)
        if explained is not error:
            raise explained from error

    @property
    def fetched(self) -> int:
        """Batches of this epoch that were fetched."""
        return self.position + len(self._fetched)

    @property
    def iterator(self) -> Any:
        """The loader's iterator of the current epoch; None between epochs."""
        return self._feed.iterator

    def hand_out(self) -> None:
        """Note that the oldest of the batches that were fetched is the loop's turn now."""
        self._account = self._fetched.popleft()
        self.position += 1

    def close(self) -> None:
        """Let go of the iterator, and so of its workers."""
        self._feed.close()

    def end_inside(self) -> None:
        """End the loop inside an epoch: let go of the iterator, with the position still there."""
        self._feed.rest()
        self._feed.close()

    def epoch_ended(self) -> None:
        """Note that the epoch is over; a source that can be read only once says so when asked again."""
        self._set_position(0)
        self._epoch_start = self._mark = None
        self._feed.end_epoch()
        if self._once:
            self.loader = self._feed.loader = Spent()

    def _set_position(self, position: int) -> None:
        self.position = position
        self._fetched.clear()
        self._account = self._feed.account() if position else NOTHING

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data, together with what makes this epoch's order."""
        return {
            "position": self.position,
            "own": self.own.capture(),
            "feed": self._feed.state_dict(self._account),
            "epoch_start": self._epoch_start if self.position else None,
        }

    def mark(self) -> None:
        """Mark the position as a turn's beginning, for ``state_at_mark``."""
        self._mark = (self._account, self.position)

    @property
    def marked(self) -> bool:
        """Whether there is a mark, and no epoch has ended since."""
        return self._mark is not None

    def state_at_mark(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the state where ``mark`` was called last, in this epoch.

        Returns:
            What ``state_dict`` would have returned there, its ``own`` as it is now; and, where the mark
            stands at the beginning of an epoch that has begun, those of the process's generators that
            making the iterator may have moved, from before that: an epoch begins with it.
        """
        assert self._mark is not None, "mark() comes first"
        account, position = self._mark
        start = self._epoch_start
        state = {"position": position, "own": self.own.capture(), "epoch_start": start}
        if position or start is None:
            return {**state, "feed": self._feed.state_dict(account)}, None
        return {**state, "own": start["own"], "feed": start["feed"], "epoch_start": None}, start[
            "random"
        ]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position; ``resume_epoch`` goes there."""
        self._resume = state

    def restore(self, state: dict[str, Any]) -> None:
        """Put the data's own generators and values where ``state_dict`` found them."""
        self.own.restore(state["own"])

    def leave(self, state: dict[str, Any]) -> None:
        """Take over what an ended loop left, for the loops after it."""
        self.restore(state)
        self._feed.leave(state["feed"])


def _listed(indices: Any) -> Any:
    return indices.tolist() if isinstance(indices, memoryview) else indices


def make_feed(loader: Any) -> Feed:
    """Return the feed of a loader's kind."""
    if callable(getattr(loader, "state_dict", None)) and callable(
        getattr(loader, "load_state_dict", None)
    ):
        from loopwright.train.data.stateful_feed import StatefulFeed

        return StatefulFeed(loader)
    if is_torchs(loader) and not isinstance(loader.dataset, IterableDataset):
        return MapFeed(loader)
    return StreamFeed(loader)
