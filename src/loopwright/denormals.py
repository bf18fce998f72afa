"""Denormal numbers: how much an optimizer's cost on this machine, and taking them as zero.

A moment whose gradient stays zero (pixels that are hardly ever lit, units that are dead, words that don't
come) decays into numbers below 1.2e-38 in float32 and stays there, by 0.9 a step after 800 steps. Many
processors compute each of those by microcode. Of the Adam of a perceptron on Fashion-MNIST 13 % of the first
moments were denormal after an epoch: torch's fused kernel took 1,380 µs instead of 435 (benchmarks/LOG.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

SHARE, SLOWER = 0.01, 1.5
"""Fewer denormals than that, or a machine that computes them nearly as fast, are nobody's concern."""
LOST_SHARE, LOST_S = 0.03, 5e-5
"""Of a step's time, and in seconds: what denormals must cost at least."""
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


def slow(optimizer: Any, clock: Callable[[], float] = time.perf_counter) -> list[Slow]:
    """Return what an optimizer keeps on the CPU that this thread computes slowly, each kind by itself.

    0.5 ms for Adam's two moments, 2 ms where there are many.
    """
    found: list[Slow] = []
    for name, tensors in kinds(optimizer).items():
        taken = blocks(tensors)
        if taken is None:
            continue
        tiny = torch.finfo(taken.dtype).tiny
        denormal = (taken != 0) & (taken.abs() < tiny)
        share = int(denormal.sum()) / len(taken)
        if share < SHARE:
            continue
        slow, fast = _times(taken, taken.masked_fill(denormal, 1), clock)
        if slow < SLOWER * fast:
            continue
        each = (slow - fast) / len(taken)
        seconds = USES * each * sum(one.numel() / threads(one) for one in tensors)
        numbers = sum(map(torch.numel, tensors))
        found.append(Slow(name, numbers, tiny, share, slow / fast, seconds))
    return found


def matters(lost: float, step: float) -> bool:
    """Return whether so many seconds of a step's are worth a word."""
    return lost >= max(LOST_SHARE * step, LOST_S)


def flush() -> bool:
    """Take denormal numbers as zero; returns whether all of torch's CPU threads do now.

    The switch is the calling thread's own, and of threads that it begins from here on: where torch has begun
    its threads already, those go on with denormal numbers. A processor without the switch leaves it as it is.
    """
    return torch.set_flush_denormal(True) and are_flushed(torch.get_num_threads())


def are_flushed(threads: int = 1) -> bool:
    """Return whether denormal numbers are zero to so many of torch's threads, the calling one first."""
    size = 1 if threads == 1 else GRAIN * threads
    return not torch.full((size,), torch.finfo(torch.float32).tiny).mul_(0.5).any()


def threads(tensor: torch.Tensor) -> int:
    """Return how many threads torch multiplies it with."""
    return max(1, min(torch.get_num_threads(), tensor.numel() // GRAIN))


def kinds(optimizer: Any) -> dict[str, list[torch.Tensor]]:
    """Return what an optimizer keeps on the CPU for its parameters, by name."""
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
    """Return up to ``BLOCKS`` runs of ``BLOCK`` numbers, evenly spread over all; few numbers as a whole.

    Only tensors that a run lies in are touched (8 µs each). None where nothing can be read.
    """
    gap = max(0, sum(map(torch.numel, tensors)) // BLOCKS - BLOCK)
    taken = []
    begin = at = 0
    left = BLOCK
    for one in tensors:
        end = begin + one.numel()
        flat = _in_memory(one) if at < end else None
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


def _times(
    numbers: torch.Tensor, ordinary: torch.Tensor, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the shortest times that one multiplication takes, in turns."""
    product = torch.empty_like(numbers)
    shortest = [float("inf")] * 2
    for _ in range(REPEATS):
        for which, factor in enumerate((numbers, ordinary)):
            began = clock()
            torch.mul(factor, 0.9, out=product)
            shortest[which] = min(shortest[which], clock() - began)
    return shortest[0], shortest[1]


def _in_memory(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return its numbers in the order in which they lie there; None where they lie apart."""
    if tensor.layout != torch.strided:
        return None
    lying = tensor.detach().permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    return lying.view(-1) if lying.is_contiguous() else None
