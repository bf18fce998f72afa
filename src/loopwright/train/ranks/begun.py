"""An epoch that other processes have begun: its order is drawn again as they have drawn it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader

from loopwright.parallel.apart import seeded
from loopwright.train.data.feed import warn_other_order
from loopwright.train.data.loaders import kind_of
from loopwright.train.data.order import Order
from loopwright.train.data.own_state import OwnState
from loopwright.train.process import randomness


class Begun:
    """What draws the order of an epoch that one process alone, or another number of ranks, has begun.

    Args:
        state: as ``saving.begin_the_rest`` made it.
        given: the whole loader.
        own: the state of the data's own objects, by the paths that they had for those who began it.
    """

    def __init__(self, state: dict[str, Any], given: Any, own: OwnState):
        self.state = state
        self._given = given
        self._own = own

    def begin_again(self) -> None:
        """Let data that are read bit by bit be read from the epoch's beginning once more."""
        self._own.restore(self.state["own"])
        if self.state["random"] is not None and not self.state["exact"]:
            warn_other_order(f"the {kind_of(self._given)} may give others", self.state["position"])

    def order(self, sampler: Any, seed: int) -> list[Any]:
        """Return all that a sampler gives in this epoch; it leaves no trace.

        Args:
            sampler: of samples or of batches.
            seed: that ranks draw with.
        """
        loader = self._given
        single = sampler is loader.sampler and loader.batch_sampler is not None
        with self._own.forked():
            self._own.restore(self.state["own"])
            if single:  # batches are made of it lazily, after the loader's own draw
                with self.generators(seed):
                    order = list(sampler)
            elif self.state["random"] is None:
                with seeded(seed):
                    order = list(sampler)
            else:
                with self._generators():
                    inner = iter(sampler)
                    with self._seed_of_workers():
                        order = list(inner)
        self._compare(BatchSampler(order, loader.batch_size, False) if single else order, sampler)
        return order

    @contextmanager
    def generators(self, seed: int) -> Iterator[None]:
        """Have the host's generators stand where the order was drawn, for the length of a block."""
        if self.state["random"] is None:
            with seeded(None), self._seed_of_workers(), seeded(seed):
                yield
            return
        with self._generators(), self._seed_of_workers():
            yield

    @contextmanager
    def _generators(self) -> Iterator[None]:
        """Have them stand where the process alone made the loader's iterator."""
        with seeded(None):
            randomness.restore(self.state["random"])
            yield

    @contextmanager
    def _seed_of_workers(self) -> Iterator[None]:
        """Draw what a ``DataLoader`` draws when its iterator is made."""
        if not isinstance(self._given, DataLoader) or self.state["alive"]:
            yield
            return
        own = self._given.generator
        before = None if own is None else own.get_state()
        torch.empty((), dtype=torch.int64).random_(generator=own)
        try:
            yield
        finally:
            if own is not None and before is not None:
                own.set_state(before)

    def _compare(self, batches: Any, sampler: Any) -> None:
        """Say so where it is another one than the process alone has had."""
        state, position = self.state, self.state["position"]
        if state["random"] is None or state["digest"] is None:
            return
        drawn = Order(iter(batches))
        if position <= len(batches):
            drawn.go_forward(range(position))
        if drawn.digest != state["digest"] or not state["exact"]:
            warn_other_order(f"the {type(sampler).__name__} gives another order", position)
