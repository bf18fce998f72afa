"""Each rank's share of what a loader gives: samples of a sampler, batches of anything else.

All ranks draw the same order, with generators that are seeded by a number they agree on and by the epoch,
and each takes every ``size``-th of it. So the shares of one epoch are the data set, and another epoch has
another order. Where they are unequal and each rank must have as many turns as the others, the last turn
of a rank without a batch is *padding*: a batch it had already, which counts for nothing.

An epoch that others have begun (one process alone, or another number of ranks) goes on in the order that
they have drawn.
"""

from __future__ import annotations

import copy
import math
import zlib
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    default_collate,
    get_worker_info,
)

from loopwright.errors import DataError, UsageError
from loopwright.parallel.apart import Stream, seeded
from loopwright.parallel.world import World


class Share:
    """What all kinds have in common.

    Args:
        world: the ranks.
        even: every rank gets as many turns as the others.

    Attributes:
        seed: all ranks agree on it.
        epoch: makes another order.
        start: samples (or batches, of what gives those) at the beginning of the order that are left
            out: another number of ranks has been trained on them.
        padded: the last batch of this epoch is padding.
        begun: what draws this epoch's order as those did who have begun it; nothing where that is we.
        passed: of what is read bit by bit something has come by in this process, whosever it was.
    """

    batch_size = 1
    passed = False

    def __init__(self, world: World, *, even: bool):
        self.seed = 0
        self.epoch = 0
        self.start = 0
        self.padded = False
        self.begun: tuple[Any, ...] = ()
        self._rank = world.rank
        self._size = world.size
        self._even = even

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that epoch's."""
        self.epoch = epoch

    @property
    def _draws(self) -> int:
        return (self.seed + 1_000_003 * self.epoch) % 2**63

    def _order(self, sampler: Any) -> Any:
        """Return all that a sampler gives in this epoch: a list, or a tensor of indices."""
        if self.begun:
            return self.begun[0].order(sampler, self._draws)
        if _permutes(sampler):
            return _permutation(len(sampler), self._draws)
        with seeded(self._draws):
            if type(sampler) is RandomSampler:  # asked for more, it would draw all of it once more
                return list(islice(sampler, len(sampler)))
            return list(sampler)

    def _stream(self, seed: int) -> Stream:
        """Return the random numbers of what is read bit by bit."""
        with self.begun[0].generators(seed) if self.begun else seeded(seed):
            return Stream()


class SampleShare(Share, Sampler[Any]):
    """A rank's share of a sampler that batches of ``batch_size`` are made of.

    Args:
        sampler: gives the order of all samples.
        batch_size: of each rank.
        drop_last: leave out the rest that does not make a full batch for every rank.
        world: the ranks.
        even: see `Share`.
    """

    def __init__(
        self, sampler: Any, batch_size: int, world: World, *, drop_last: bool, even: bool
    ):  # fmt: skip
        super().__init__(world, even=even)
        self.sampler = sampler
        self._world = world
        self.batch_size = batch_size
        self._drop_last = drop_last
        self._total = 0
        self._agreed = False

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self.sampler, "__len__"):
            return self._unsized()
        order = self._order(self.sampler)
        if self.begun or not self._agreed:
            check_agreed(_listed(order), self._world)
            # What depends on the seed alone, and was alike once, is alike in every epoch.
            self._agreed = type(self.sampler) is SequentialSampler or (
                type(self.sampler) is RandomSampler and self.sampler.generator is None
            )
        order = order[self.start : self._kept(len(order))]
        self._total = len(order)
        full = len(order) - self._in_last_turn(len(order))
        mine = _listed(order[:full][self._rank :: self._size])
        mine += _listed(order[full:][self._of_turn(len(order) - full)])
        self.padded = self._pads(len(order), len(mine))
        if self.padded:
            # A whole batch, of which BatchNorm can take a variance.
            mine += _listed(order[: self.batch_size])
        return iter(mine)

    def _unsized(self) -> Iterator[Any]:
        stream, inner = self._stream(self._draws), iter(self.sampler)
        for _ in range(self.start):
            stream.read(inner.__next__)
        at_once, number = self._whole if self._drop_last else 1, 0
        while True:
            try:
                several = [stream.read(inner.__next__) for _ in range(at_once)]
            except StopIteration:
                return
            self.passed = True
            for sample in several:
                if number % self._size == self._rank:
                    yield sample
                number += 1

    @property
    def _whole(self) -> int:
        """Samples of which every rank gets a full batch; one rank where they may be uneven."""
        return self.batch_size * (self._size if self._even else 1)

    def foreseen(self, position: int) -> tuple[int, int]:
        """Return how many samples this rank, and how many all, have in a batch of the epoch, from 1.

        A turn of all ranks is one piece of the order, so nobody has to be asked.
        """
        each = self.batch_size * self._size
        if position * each <= self._total:
            return self.batch_size, each
        turn = max(0, min(each, self._total - (position - 1) * each))
        return self._share(turn), turn

    def _in_last_turn(self, total: int) -> int:
        return total and (total - 1) % (self.batch_size * self._size) + 1

    def _of_turn(self, samples: int) -> slice:
        """Return which of a turn's samples are this rank's.

        Every ``size``-th, and at an epoch's end of as few ranks' as it takes for each of them to have two:
        BatchNorm has no variance of one, while those that have none train on padding.
        """
        takers = self._size
        if self._even and samples < 2 * takers:
            few = max(1, samples // 2)
            if samples <= few * self.batch_size:
                takers = few
        return slice(self._rank, samples if self._rank < takers else 0, takers)

    def _share(self, samples: int) -> int:
        return len(range(samples)[self._of_turn(samples)])

    def _kept(self, total: int) -> int:
        """Return how many samples of all are used: the rest of an epoch is left out where that is asked."""
        whole = self._whole
        rest = max(0, total - self.start)
        if not self._drop_last or (self.start and rest < whole):  # no epoch is without a turn
            return total
        return total - rest % whole

    def __len__(self) -> int:
        total = max(0, self._kept(len(self.sampler)) - self.start)
        last = self._in_last_turn(total)
        mine = (total - last) // self._size + self._share(last)
        return mine + (min(self.batch_size, total) if self._pads(total, mine) else 0)

    def _pads(self, total: int, mine: int) -> bool:
        turns = math.ceil(total / (self.batch_size * self._size))
        return self._even and math.ceil(mine / self.batch_size) < turns


class BatchShare(Share, Sampler[Any]):
    """A rank's share of a batch sampler."""

    def __init__(self, batches: Any, world: World, *, even: bool):
        super().__init__(world, even=even)
        self.batches = batches
        self._world = world

    def __iter__(self) -> Iterator[Any]:
        order = self._order(self.batches)
        check_agreed(order, self._world)
        mine = order[self.start + self._rank :: self._size]
        self.padded = len(mine) < len(self)
        if self.padded:
            mine.append(order[-1])
        return iter(mine)

    def __len__(self) -> int:
        return _length(len(self.batches) - self.start, self._rank, self._size, even=self._even)


class LoaderShare(Share):
    """A rank's share of a loader with a length that is no ``DataLoader``: every ``size``-th batch.

    Every rank makes the whole loader's batches, unless it is a list.
    """

    def __init__(self, loader: Any, world: World, *, even: bool):
        super().__init__(world, even=even)
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        total, mine, latest = 0, 0, None
        for number, latest in enumerate(self._all(), -self.start):
            if number < 0:
                continue
            if number % self._size == self._rank:
                mine += 1
                yield latest
            total += 1
        self.padded = total > 0 and mine < _length(total, self._rank, self._size, even=self._even)
        if self.padded:
            yield latest

    def _all(self) -> Iterator[Any]:
        if type(self.loader) in (list, tuple):
            return iter(self.loader)
        return _drawn(self.loader, self._stream(self._draws))

    def __len__(self) -> int:
        return _length(len(self.loader) - self.start, self._rank, self._size, even=self._even)


class StreamShare(Share, IterableDataset[Any]):
    """A rank's share of a stream: of a data set's samples, in each worker, or of batches.

    Every rank reads the whole stream and lets the others' parts pass.
    """

    def __init__(self, stream: Any, world: World, batch_size: int | None = 1):
        super().__init__(world, even=False)
        self.stream = stream
        self.batch_size = batch_size or 1

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seed = self._draws + (0 if worker is None else 7919 * (worker.id + 1))
        for number, item in enumerate(_drawn(self.stream, self._stream(seed)), -self.start):
            self.passed = True
            if number >= 0 and number % self._size == self._rank:
                yield item


def _permutes(sampler: Any) -> bool:
    """Whether a sampler gives one permutation, which the process's generators alone decide."""
    return (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.generator is None
        and sampler.num_samples == len(sampler.data_source)
    )


def _permutation(total: int, seed: int) -> Tensor:
    """Return what torch's ``RandomSampler`` gives where torch is seeded so, as a tensor.

    Of 6,400 samples in 40 µs instead of 490, 130 of which are for the generators' states: this leaves them
    alone. What a rank has no use for never becomes a list.
    """
    generator = torch.Generator().manual_seed(seed)
    own = torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator)
    return torch.randperm(total, generator=generator.manual_seed(int(own)), device="cpu")


def _listed(order: Any) -> list[Any]:
    return order.tolist() if isinstance(order, Tensor) else order


def _drawn(stream: Any, drawn: Stream) -> Iterator[Any]:
    """Iterate with draws of its own: the same on every rank, whatever the ranks draw in between."""
    inner = drawn.read(stream.__iter__)
    while True:
        try:
            item = drawn.read(inner.__next__)
        except StopIteration:
            return
        yield item


def _length(total: int, rank: int, size: int, *, even: bool) -> int:
    return math.ceil(total / size) if even else len(range(rank, total, size))


def check_agreed(order: list[Any], world: World) -> None:
    """Refuse orders that are not the same on every rank."""
    told = world.exchange(_digest(order))
    if len(set(told)) > 1:
        raise DataError(
            f"the ranks have drawn {len(set(told))} different orders of the data, so their shares "
            "would overlap",
            slug="ranks-disagree-on-order",
            hint="seed the sampler's own generator alike on every rank, or sharded=True where each "
            "rank's loader gives that rank's own share",
        )


def _digest(order: list[Any]) -> int:
    try:
        return zlib.crc32(array("q", order))
    except TypeError:  # indices of another kind, or lists of them
        return zlib.crc32(repr(order).encode())


def share_of(loader: Any, world: World, *, even: bool) -> tuple[Any, Any]:
    """Return a rank's share of any loader, and what has ``set_epoch`` in it.

    Args:
        loader: anything that can be iterated over; not changed.
        world: the ranks.
        even: every rank gets as many turns as the others, for training.
    """
    if not isinstance(loader, DataLoader):
        made = (
            LoaderShare(loader, world, even=even)
            if _is_sized(loader)
            else StreamShare(loader, world)
        )
        return made, made
    share: Any
    if isinstance(loader.dataset, IterableDataset):
        share = StreamShare(loader.dataset, world, loader.batch_size)
        return _with(loader, dataset=share), share
    batches: Any = loader.batch_sampler
    if type(batches) not in (BatchSampler, type(None)):
        share = BatchShare(batches, world, even=even)
        return _with(loader, batch_sampler=share), share
    sampler: Any = loader.sampler if batches is None else batches.sampler
    if isinstance(sampler, DistributedSampler):
        if even:
            return loader, sampler
        # It pads, and metrics would count a sample twice.
        dataset: Any = loader.dataset
        sampler = SequentialSampler(dataset)
    share = SampleShare(
        sampler, 1 if batches is None else batches.batch_size, world,
        drop_last=batches is not None and batches.drop_last, even=even,
    )  # fmt: skip
    if batches is None:
        return _with(loader, sampler=share), share
    # The share has left the rest out where that is asked.
    again = BatchSampler(share, batches.batch_size, drop_last=False)
    return _with(loader, sampler=share, batch_sampler=again), share


def foresees(loader: Any, share: Any) -> int:
    """Return the batch size if the size of each batch follows from the share, 0 where it may not.

    It does where the share is one of samples, which torch itself collates.
    """
    if type(loader) is not DataLoader or not isinstance(share, SampleShare):
        return 0
    dataset = loader.dataset
    while type(dataset) is Subset:
        dataset = dataset.dataset
    known = (
        loader.batch_size is not None
        and hasattr(share.sampler, "__len__")
        and loader.collate_fn is default_collate
        and getattr(loader, "in_order", True)
        and not hasattr(dataset, "__getitems__")
    )
    return share.batch_size if known else 0


def _is_sized(loader: Any) -> bool:
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        return False
    return True


def _with(loader: DataLoader[Any], **changed: Any) -> DataLoader[Any]:
    """Return a copy of a loader with other parts, whatever its class; the workers are its own.

    ``DataLoader`` refuses to set these after it is made; nothing has been iterated over here.
    """
    if any(name not in vars(loader) for name in changed):
        raise UsageError(
            f"a {type(loader).__name__} keeps its sampler elsewhere than torch's DataLoader does",
            slug="loader-not-shareable",
            hint="let each rank's loader give its own share, and say sharded=True",
        )
    made = copy.copy(loader)
    vars(made).update(changed, _iterator=None)
    return made
