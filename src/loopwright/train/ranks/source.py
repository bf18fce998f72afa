"""A rank's share of a loader, with as many turns as the other ranks have."""

from __future__ import annotations

from collections import deque
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch

from loopwright.errors import DataError
from loopwright.parallel.apart import agreed_seed
from loopwright.parallel.one import OneRank
from loopwright.parallel.shares import (
    BatchShare,
    SampleShare,
    Share,
    StreamShare,
    foresees,
    share_of,
)
from loopwright.parallel.world import World
from loopwright.train.data.batches import count_samples
from loopwright.train.data.own_state import OwnState, generators_of
from loopwright.train.data.source import Source
from loopwright.train.ranks.begun import Begun
from loopwright.train.ranks.lending import NotLent, lender_of, lent, without_data

_SHARES: WeakKeyDictionary[Any, dict[bool, Any]] = WeakKeyDictionary()
"""Made once for each loader: persistent workers belong to the share."""


class SharedSource(Source):
    """One rank's batches.

    Args:
        loader: as `Source` takes it.
        world: the ranks.
        sharded: the loader gives this rank's share already.
        even: for training: a rank that has fewer turns than the others gets *padding* at the end, a
            batch that it had already, or that another rank has in this turn, and that counts for nothing.

    Attributes:
        padding: the batch that was handed out last is such a one.
        seen: samples that were fetched.
        calls: of sharded models in an evaluation, which take all ranks.
    """

    def __init__(
        self, loader: Any, *, world: World, sharded: bool = False, even: bool = False,
        around: FrameType | None = None, **rest: Any,
    ):  # fmt: skip
        self._world = world
        self._sharded = sharded
        self._even = even
        self._share: Any = None
        self._asks = self._foresees = False
        self._epoch = 0
        self._latest: Any = None
        self._is_over = False  # this rank has no batch left in the epoch
        self._others_had = False  # in an evaluation of sharded models, some rank had a batch
        self._pads: deque[bool] = deque()
        self._padding = False
        self._padded = 0
        self._done = 0  # batches of this epoch that another number of processes has trained on
        self._begun: Begun | None = None
        self.seen = 0
        self.calls: Any = None
        super().__init__(loader, around=around, **rest)
        self._body = generators_of(around)

    def _length(self) -> int | None:
        try:
            return super()._length()
        except DataError:
            if not self._sharded:
                raise
            return 0  # the others may have the data

    def _take_share(self) -> None:
        if self._sharded:
            self._share = getattr(self.given, "sampler", None)
        else:
            self.loader, self._share = _share_of(self.given, self._world, even=self._even)
            self._measure()
        if self._even:
            # Rank by rank as many: known beforehand, or asked for at each batch.
            each = foresees(self.loader, self._share)
            told = self._world.exchange([self.length, each])
            if all(length == 0 for length, _ in told):
                super()._length()  # says so
            if any(length != self.length for length, _ in told):
                self.length = None
            self._asks = self.length is None
            self._foresees = not self._asks and all(one == each > 0 for _, one in told)

    def _measure(self) -> None:
        if self.given_length is not None and not self._sharded and not self._asks:
            self.length = len(self.loader)

    def set_seed(self, seed: int) -> None:
        """Let the order of the data depend on a number that all ranks know."""
        if isinstance(self._share, Share):
            self._share.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Let the coming epoch be that one."""
        self._epoch = epoch
        if callable(set_epoch := getattr(self._share, "set_epoch", None)):
            set_epoch(epoch)

    def start_epoch(self, device: torch.device | None = None) -> None:
        """Begin the epoch that ``set_epoch`` named."""
        self._padded = 0
        share = self._share
        if isinstance(share, Share):
            if self._begun is not None and not _is_drawn_at_once(share):
                self._begun.begin_again()
            share.start = self._done * share.batch_size
            self._go_on_in_order(share)
        self.set_epoch(self._epoch)
        self._measure()
        super().start_epoch(device)

    def resume_epoch(self, *args: Any, **rest: Any) -> None:
        """Go on where ``load_state_dict`` said."""
        if isinstance(self._share, Share):
            self._go_on_in_order(self._share)
        super().resume_epoch(*args, **rest)
        self._measure()

    def _go_on_in_order(self, share: Share) -> None:
        """Let a share give what is left of the epoch in the order of those who have begun it."""
        in_workers = isinstance(share, StreamShare) and getattr(self.loader, "num_workers", 0)
        share.begun = () if self._begun is None or in_workers else (self._begun,)

    def epoch_ended(self) -> None:
        """Note that the epoch is over; the next one is of these ranks alone."""
        super().epoch_ended()
        self._done, self._begun = 0, None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position; of another number of processes, what of the epoch is left for these."""
        super().load_state_dict(state)
        share = state.get("share") or state.get("rest") or {"done": 0, "begun": None}
        self._done, begun = share["done"], share["begun"]
        if begun is not None:
            own = self.own if begun["random"] is None else self._whole()
            self._begun = Begun(begun, self.given, own)

    def restore(self, state: dict[str, Any]) -> None:
        """Put the data's own generators and values where ``state_dict`` found them."""
        own = self.own if "share" in state else self._whole()
        own.restore(state["own"])

    def _whole(self) -> OwnState:
        """Return the state of the data's own objects by the paths that one process alone has."""
        return OwnState(loader=self.given, body=self._body)

    def fetch(self) -> Any:
        """Return the next batch; raises StopIteration when no rank has another one."""
        if self.calls is not None:
            return self._fetch_in_step(self.calls)
        if not self._asks:
            batch = super().fetch()
            self.seen += count_samples(batch) or 1
            return batch
        if (found := self._fetch_own()) is not None:
            self._latest = found[0]
        there = self._world.total([float(found is not None)])[0]
        if not there:
            raise StopIteration
        if there < self._world.size:
            theirs = self._borrow(found)
            if found is None:
                self._latest = theirs
                self._fetched.append(self._feed.account())
        self._pads.append(found is None)
        return self._latest

    def _fetch_own(self) -> tuple[Any] | None:
        """Return this rank's next batch, in a tuple; None where it has no other."""
        try:
            return None if self._is_over else (super().fetch(),)
        except StopIteration:
            self._is_over = True
            return None

    def _borrow(self, found: tuple[Any] | None) -> Any:
        """Return the batch of the first rank that has one in this turn; its own latest if it can't be sent.

        So what a padding turn draws is the same again when an epoch is gone on with.
        """
        lender = lender_of(found is not None, self._world)
        try:
            return lent(None if found is None else found[0], lender, self._world)
        except NotLent as why:
            if self._latest is None:
                raise without_data("their batch", why, self._world) from None
            return self._latest

    def _fetch_in_step(self, calls: Any) -> Any:
        """Return the next batch of an evaluation; at its end keep step with the ranks that have more."""
        calls.told()
        found = self._fetch_own()
        while True:
            lost = found is None and not calls.known
            there, needy = self._world.total([float(found is not None), float(lost)])
            if not there:
                raise StopIteration
            self._others_had = True
            lender = lender_of(found is not None, self._world) if needy else None
            if found is not None:
                calls.begin(lender)
                self.seen += count_samples(found[0]) or 1
                return found[0]
            if lender is None:
                calls.again()
            else:
                calls.follow(lender)

    @property
    def owes_batches(self) -> bool:
        """Whether an evaluation that got no batch had nothing to evaluate, as far as this rank can know."""
        if self._others_had or self._sharded or getattr(self.loader, "num_workers", 0):
            return False
        return super().owes_batches and not getattr(self._share, "passed", False)

    def hand_out(self) -> None:
        """Note that the oldest of the batches that were fetched is the loop's turn now."""
        super().hand_out()
        if self._asks:
            self._padding = self._pads.popleft()
            self._padded += self._padding

    @property
    def foreseen(self) -> tuple[int, int] | None:
        """Samples of this rank, and of all, in the turn that was handed out last, if they can be known."""
        return self._share.foreseen(self.position) if self._foresees else None

    @property
    def padding(self) -> bool:
        """Whether the turn's batch counts for nothing."""
        if self._asks:
            return self._padding
        return self.position == self.length and getattr(self._share, "padded", False)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in this rank's own batches; padding is none of them."""
        state = super().state_dict()
        return {**state, "position": state["position"] - self._padded, **self._of_share()}

    def state_at_mark(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the state where ``mark`` was called last, in this epoch."""
        state, generators = super().state_at_mark()
        return {**state, **self._of_share()}, generators

    def _of_share(self) -> dict[str, Any]:
        """Return where this epoch's order comes from; nothing where the program deals out the data."""
        if not isinstance(self._share, Share):
            return {}
        begun = None if self._begun is None else self._begun.state
        return {"share": {"done": self._done, "begun": begun}}

    def _set_position(self, position: int) -> None:
        super()._set_position(position)
        self._pads.clear()
        self._is_over = self._others_had = False


def after_ranks(loader: Any, **rest: Any) -> SharedSource:
    """Return where one process alone takes its batches from when it goes on with what ranks have begun."""
    source = SharedSource(loader, world=OneRank(), even=True, **rest)
    source.set_seed(agreed_seed(source._world))  # for a loop that begins after all
    return source


def _is_drawn_at_once(share: Share) -> bool:
    sized = isinstance(share, SampleShare) and hasattr(share.sampler, "__len__")
    return sized or isinstance(share, BatchShare)


def _share_of(loader: Any, world: World, *, even: bool) -> tuple[Any, Any]:
    try:
        known = _SHARES.setdefault(loader, {})
    except TypeError:  # a list
        return share_of(loader, world, even=even)
    if even not in known:
        known[even] = share_of(loader, world, even=even)
    return known[even]
