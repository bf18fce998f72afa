"""The account of denormal state: numbers of an optimizer that are too small for the processor's fast path.

A moment whose gradient stays zero decays into denormal numbers (below 1.2e-38 in float32) and stays there,
and many processors compute each of those by microcode. How many there are, and how much slower this very
machine multiplies them, is measured in the steps number 256, 512, 1024, ... (or the next one that is seen)
and at the end, on the CPU alone and by the thread that steps: whether denormals are flushed to zero is a
setting of each thread. Cost: 0.5 ms a look at Adam's two moments, 2 ms where there are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.events import Event
from loopwright.observe import content

FIRST = 256
"""The first step that is looked at: 0.9 decays so far in 800, 0.5 in 120."""
SHARE, SLOWER = 0.01, 1.5
"""Fewer denormals than that, or a machine that computes them nearly as fast, are nobody's concern."""
BLOCK, BLOCKS = 512, 64
"""Runs of numbers as they lie in memory, spread over all: what is slow is a vector with a denormal in it, so
13 % in clusters cost 5 times, and the same ones scattered 26 times as much as ordinary numbers."""
MOST = 1024
"""Parameters of an optimizer that are looked at."""
REPEATS = 7
USES = 2
"""Multiplications of each number in a step, at least: it decays, and it moves a parameter."""
GRAIN = 32768
"""Numbers of a tensor from which on torch computes with more than one thread."""
COMPUTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Slow(NamedTuple):
    """One kind of state, as it was when it was looked at."""

    name: str
    """What the optimizer calls it: "exp_avg"."""
    numbers: int
    tiny: float
    """The smallest number that is none."""
    share: float
    """Of denormals."""
    slower: float
    """How many times as long a multiplication of all takes as with ordinary numbers in their places."""
    seconds: float
    """Of each step, at least."""


class Denormals:
    """The account; see the module.

    Args:
        optimizers: who is there, and how often each stepped.
        clock: seconds, like ``time.perf_counter``.
    """

    def __init__(
        self, optimizers: Optimizers, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.optimizers = optimizers
        self.clock = clock

    def after_step(self, event: Event) -> None:
        """Look at its state, if it is time."""
        entry = self.optimizers.of(event.subject, event)
        if entry.steps >= max(entry.slow_due, FIRST):
            entry.slow_due = 1 << entry.steps.bit_length()
            self._look(entry)

    def latest(self) -> list[Entry]:
        """The optimizers whose state is slow, after one more look at those that are still there."""
        for entry in self.optimizers.here():
            if entry.thread is not None and entry.steps > FIRST:
                self._look(entry)
        return [entry for entry in self.optimizers.entries if entry.slow]

    def _look(self, entry: Entry) -> None:
        found: list[Slow] = []
        with content.quiet():
            for name, tensors in kinds(entry.ref()).items():
                taken = blocks(tensors)
                if taken is None:
                    continue
                tiny = torch.finfo(taken.dtype).tiny
                denormal = (taken != 0) & (taken.abs() < tiny)
                share = int(denormal.sum()) / len(taken)
                if share < SHARE:
                    continue
                slow, fast = self._times(taken, taken.masked_fill(denormal, 1))
                if slow < SLOWER * fast:
                    continue
                each = (slow - fast) / len(taken)
                seconds = USES * each * sum(one.numel() / threads(one) for one in tensors)
                numbers = sum(map(torch.numel, tensors))
                found.append(Slow(name, numbers, tiny, share, slow / fast, seconds))
        entry.slow = (
            found  # none where it has been cleared since, or the program has begun to flush them
        )

    def _times(self, numbers: torch.Tensor, ordinary: torch.Tensor) -> tuple[float, float]:
        """The shortest times that one multiplication takes, in turns."""
        product = torch.empty_like(numbers)
        shortest = [float("inf")] * 2
        for _ in range(REPEATS):
            for which, factor in enumerate((numbers, ordinary)):
                began = self.clock()
                torch.mul(factor, 0.9, out=product)
                shortest[which] = min(shortest[which], self.clock() - began)
        return shortest[0], shortest[1]


def threads(tensor: torch.Tensor) -> int:
    """How many threads torch multiplies it with."""
    return max(1, min(torch.get_num_threads(), tensor.numel() // GRAIN))


def kinds(optimizer: Any) -> dict[str, list[torch.Tensor]]:
    """What an optimizer keeps on the CPU for its parameters, by name."""
    found: dict[str, list[torch.Tensor]] = {}
    states = list(getattr(optimizer, "state", {}).values())
    for state in states[:: 1 + len(states) // MOST]:
        for name, value in state.items() if isinstance(state, dict) else ():
            if type(value) is torch.Tensor and value.is_cpu and value.numel() > 1:
                known = found.setdefault(str(name), [])
                if value.dtype in COMPUTED and (not known or known[0].dtype == value.dtype):
                    known.append(value)
    return found


def blocks(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    """Up to ``BLOCKS`` runs of ``BLOCK`` numbers, evenly spread over all of them; few numbers as a whole.

    Only tensors that a run lies in are touched (8 µs each). None where nothing can be read.
    """
    gap = max(0, sum(map(torch.numel, tensors)) // BLOCKS - BLOCK)
    taken = []
    begin = at = 0
    left = BLOCK
    for one in tensors:
        end = begin + one.numel()
        flat = in_memory(one) if at < end else None
        while at < end:
            stop = min(at + left, end)
            if flat is not None:
                taken.append(flat[at - begin : stop - begin])
            left -= stop - at
            at = stop
            if not left:
                left, at = BLOCK, at + gap
        begin = end
    return torch.cat(taken) if taken else None


def in_memory(tensor: torch.Tensor) -> torch.Tensor | None:
    """Its numbers in the order in which they lie there; None where they lie apart."""
    if not content.readable(tensor):
        return None
    lying = tensor.detach().permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    return lying.view(-1) if lying.is_contiguous() else None
