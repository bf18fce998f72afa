"""Random numbers of each rank's own: where all are seeded alike they would drop out the same units."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from loopwright.parallel.world import World

T = TypeVar("T")


def spread(world: World) -> int:
    """Give every rank whose generators stand where the first one's do numbers of its own.

    The first rank keeps its numbers. Returns a seed that all ranks agree on, for the order of the data.
    """
    told = world.exchange([_print(), _draw_without_trace()])
    (firsts, seed), (mine, _) = told[0], told[world.rank]
    own = seed + world.rank
    if not world.is_first:
        if mine["torch"] == firsts["torch"]:
            torch.manual_seed(own)
        if mine["python"] == firsts["python"]:
            random.seed(own)
        if (numpy := sys.modules.get("numpy")) is not None and mine["numpy"] == firsts["numpy"]:
            numpy.random.seed(own % 2**32)
    return seed


def _print() -> dict[str, int]:
    numpy = sys.modules.get("numpy")
    return {
        "torch": zlib.crc32(torch.get_rng_state().numpy().tobytes()),
        "python": zlib.crc32(repr(random.getstate()).encode()),
        "numpy": 0 if numpy is None else zlib.crc32(repr_of(numpy.random.get_state())),
    }


def repr_of(state: Any) -> bytes:
    """Return the bytes of numpy's state."""
    return b"".join(getattr(part, "tobytes", repr(part).encode)() for part in state)


def agreed_seed(world: World) -> int:
    """Return a number that the first rank's generators give; they stay where they are."""
    return world.first(_draw_without_trace())


def _draw_without_trace() -> int:
    with seeded(None):
        return int(torch.randint(0, 2**48, (1,)))


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Run a block with the host's generators seeded; afterwards they stand where they stood."""
    numpy = sys.modules.get("numpy")
    states = random.getstate(), torch.get_rng_state()
    numpys = None if numpy is None else numpy.random.get_state()
    try:
        if seed is not None:
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            if numpy is not None:
                numpy.random.seed(seed % 2**32)
        yield
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
        if numpy is not None:
            numpy.random.set_state(numpys)


class Stream:
    """A stream of random numbers of its own, for reads that happen now and then.

    It begins where the process's generators stand when it is made.
    """

    def __init__(self) -> None:
        self._states = self._here()

    def read(self, do: Callable[[], T]) -> T:
        """Do something that draws from this stream instead of from the process's generators."""
        numpy = sys.modules.get("numpy")
        with seeded(None):
            random.setstate(self._states[0])
            torch.set_rng_state(self._states[1])
            if numpy is not None and self._states[2] is not None:
                numpy.random.set_state(self._states[2])
            try:
                return do()
            finally:
                self._states = self._here()

    def _here(self) -> tuple[Any, ...]:
        numpy = sys.modules.get("numpy")
        state = None if numpy is None else numpy.random.get_state()
        return random.getstate(), torch.get_rng_state(), state
