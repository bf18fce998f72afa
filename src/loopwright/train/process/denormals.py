"""Numbers under the smallest normal one taken as zero: torch's own switch, and whether all threads heard it.

Where a gradient is zero for long (pixels that are hardly ever lit, words that don't come), Adam's first
moment shrinks by a tenth a step and after some 800 steps stays among the denormal numbers. A processor that
computes those by microcode takes 2 to 3 times as long for such an update: of the Adam of a perceptron on
Fashion-MNIST 13 % of the first moments were denormal after an epoch, and torch's fused kernel took 1,380 µs
instead of 435 (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import torch
from torch import Tensor
from torch.optim import Optimizer

PIECE = 1 << 15
"""Elements under which torch gives no part of an elementwise operation to another thread."""
FEWEST, WORTH, SHARE, SLOWER = 100, 10_000, 0.01, 1.5
"""Turns, numbers of an optimizer, the share of them that is denormal, and how much slower a processor must be
with them, under which nobody waits for them."""
MOST = 1 << 20
"""Numbers that are looked at."""
SAMPLE = 1 << 14
"""Numbers by which the processor is timed, too few for a second thread."""


def flush() -> bool:
    """Take denormal numbers as zero; returns whether all of torch's CPU threads do now.

    The switch is the calling thread's own, and of threads that it begins from here on: where torch has begun
    its threads already, those go on with denormal numbers. A processor without the switch leaves it as it is.
    """
    return torch.set_flush_denormal(True) and are_flushed(torch.get_num_threads())


def are_flushed(threads: int = 1) -> bool:
    """Return whether denormal numbers are zero to so many of torch's threads, the calling one first."""
    size = 1 if threads == 1 else PIECE * threads
    return not torch.full((size,), torch.finfo(torch.float32).tiny).mul_(0.5).any()


def advice(optimizers: Iterable[Optimizer], turns: int) -> str | None:
    """Return what to say about denormal numbers in the state of optimizers; None where they cost little.

    Args:
        optimizers: only what they keep on the CPU is looked at.
        turns: that they have trained; 0.9 to the power of 800 is denormal, 0.5 to that of 120.
    """
    if turns < FEWEST:
        return None
    states = [
        value for optimizer in optimizers for state in optimizer.state.values()
        for value in (state.values() if isinstance(state, dict) else ())
        if type(value) is Tensor and value.is_cpu and value.layout == torch.strided
        and value.is_floating_point() and value.numel() > 1
    ]  # fmt: skip
    numbers = sum(value.numel() for value in states)
    every = 1 + numbers // MOST
    found = sum(_count(value.detach().reshape(-1)[::every]) for value in states) * every
    if numbers < WORTH or found < SHARE * numbers:
        return None
    slower = slowdown()
    if slower < SLOWER:
        return None
    return (
        f"{100 * found / numbers:.0f} % of the optimizer's numbers are denormal (under 1e-38), and this "
        f"processor is {slower:.0f} times slower with those: --flush-denormal, or "
        "torch.set_flush_denormal(True) at the program's beginning, takes them as zero"
    )


def slowdown() -> float:
    """Return how many times as long this processor, in this thread, takes for denormal numbers."""
    ordinary = torch.ones(SAMPLE)
    denormal = torch.full((SAMPLE,), torch.finfo(torch.float32).tiny / 8)
    product, times = torch.empty(SAMPLE), ([], [])
    for _ in range(7):
        for numbers, taken in zip((ordinary, denormal), times, strict=True):
            began = perf_counter()
            torch.mul(numbers, 0.9, out=product)
            taken.append(perf_counter() - began)
    return min(times[1]) / min(times[0])


def _count(numbers: Tensor) -> int:
    size = numbers.abs()
    return int(((size > 0) & (size < torch.finfo(numbers.dtype).tiny)).sum())
