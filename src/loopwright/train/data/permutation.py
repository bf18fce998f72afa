"""An epoch's whole order at once, of torch's own samplers: side by side, with the draws that they make.

Through torch's iterators the 1,797 indices of the digits take 370 µs an epoch, number by number; so, 100.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import sampler as torchs

from loopwright.train.data.order import draws_at_its_end


class Permutation:
    """What a loader's sampler and batch sampler give in an epoch.

    Args:
        batches: a `BatchSampler` over a `SequentialSampler`, or a `RandomSampler` without replacement.

    Attributes:
        size: samples of a batch.
    """

    def __init__(self, batches: BatchSampler):
        self._sampler: Any = batches.sampler
        self.size, self._drop_last = batches.batch_size, batches.drop_last
        self._index: Tensor | None = None
        self._ended = False

    def begin(self, first: int = 0) -> None:
        """Draw the order, as the sampler does when it is asked for its first number.

        Args:
            first: batches that were given already: after one that was not full there are no more draws.
        """
        sampler, total = self._sampler, len(self._sampler)
        if isinstance(sampler, RandomSampler):
            generator = sampler.generator
            if generator is None:
                seed = int(torch.empty((), dtype=torch.int64).random_().item())
                generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(sampler.data_source), generator=generator)[:total]
        else:
            order = torch.arange(total)
        memory = array("q", bytes(8 * total))
        self._numbers = memoryview(memory)
        self._index = torch.frombuffer(memory, dtype=torch.int64) if total else order
        self._index.copy_(order)
        if first * self.size > total:
            self._end()

    def batches(
        self,
        first: int,
        count: Callable[[], int],
        prepare: Callable[[list[memoryview], Tensor], None],
    ) -> Iterator[memoryview]:
        """Yield the indices of each batch; draws when and what the sampler draws.

        Args:
            first: the number of the first batch.
            count: how many batches to prepare at once.
            prepare: called with as many as there are, and with their indices behind one another.
        """
        if self._index is None:
            self.begin()
        assert self._index is not None
        size, total = self.size, len(self._numbers)
        if self._drop_last:
            total -= total % size
        at = first * size
        while at < total:
            end = min(total, at + size * count())
            parts = [self._numbers[i : min(i + size, end)] for i in range(at, end, size)]
            prepare(parts, self._index[at:end])
            for part in parts:
                if len(part) < size:
                    self._end()
                yield part
            at = end
        self._end()

    def _end(self) -> None:
        """Draw once more, as a `RandomSampler` does when it is asked for more than there is."""
        if not self._ended and draws_at_its_end(self._sampler):
            torch.randperm(len(self._sampler.data_source), generator=self._sampler.generator)
        self._ended = True


def permutation_of(loader: DataLoader[Any]) -> Permutation | None:
    """Return what gives a loader's order; None where only its own iterators know it."""
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or torch.get_default_device().type != "cpu":
        return None
    inner = batches.sampler
    if type(inner) is RandomSampler:
        if inner.replacement or not 0 < inner.num_samples <= len(inner.data_source):
            return None
    elif type(inner) is not SequentialSampler:
        return None
    ours = _as_torchs(BatchSampler.__iter__, RandomSampler.__iter__, SequentialSampler.__iter__)
    return Permutation(batches) if ours else None


@cache
def _as_torchs(*methods: Callable[..., Any]) -> bool:
    """Whether these methods are torch's own, and give and draw what is written here: it is tried once."""
    if any(method.__code__.co_filename != torchs.__file__ for method in methods):
        return False
    before = torch.get_rng_state()
    try:
        return all(
            _tried(before, some, size, drop_last, _torchs_batches)
            == _tried(before, some, size, drop_last, _our_batches)
            for some in (
                lambda: SequentialSampler(range(5)),
                lambda: RandomSampler(range(5)),
                lambda: RandomSampler(range(5), num_samples=3, generator=torch.Generator()),
                lambda: RandomSampler(range(5), generator=torch.Generator()),
                lambda: RandomSampler(range(4), generator=torch.Generator()),
            )
            for size in (2, 8) for drop_last in (False, True)
        )  # fmt: skip
    finally:
        torch.set_rng_state(before)


def _tried(
    start: Tensor,
    make: Callable[[], Any],
    size: int,
    drop_last: bool,
    batches: Callable[[Any], Any],
) -> list[Any]:
    """Return the batches, each with where the generators stand then.

    Args:
        start: where torch's own generator begins; to seed it would seed the devices', too.
    """
    sampler, found = make(), []
    generator = getattr(sampler, "generator", None) or torch.default_generator
    torch.set_rng_state(start)
    iterator = batches(BatchSampler(sampler, size, drop_last))
    while True:
        batch = next(iterator, None)
        found.append((batch and list(batch), generator.get_state().tolist()))
        if batch is None:
            return found


def _torchs_batches(batches: BatchSampler) -> Iterator[list[int]]:
    return iter(batches)


def _our_batches(batches: BatchSampler) -> Iterator[memoryview]:
    return Permutation(batches).batches(0, lambda: 2, lambda *_: None)
