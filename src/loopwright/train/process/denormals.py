"""Numbers under the smallest normal one taken as zero: torch's own switch, and whether all threads heard it.

Where a gradient is zero for long (pixels that are hardly ever lit, words that don't come), Adam's first
moment shrinks by a tenth a step and after some 800 steps stays among the denormal numbers. A processor that
computes those by microcode takes 2 to 3 times as long for such an update: of the Adam of a perceptron on
Fashion-MNIST 13 % of the first moments were denormal after an epoch, and torch's fused kernel took 1,380 µs
instead of 435 (benchmarks/LOG.md).
"""

from __future__ import annotations

import torch

PIECE = 1 << 15
"""Elements under which torch gives no part of an elementwise operation to another thread."""


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
