"""The C library's allocator, told to keep the memory that a training step frees for the next step.

glibc gives large blocks (from 128 kB) back to the system at once and asks for them again at the next step:
some 500 page faults in each step of a perceptron with 784 inputs, of which none is left (25 to 35 % of
its time). The price: the process keeps the most memory that it ever had on the heap.

A model that is sharded frees much larger blocks many times in a step, of which the heap of an older glibc can
use none again: a new one of the same size, aligned, does not fit into the hole. There only small blocks are
kept (`SMALL_BLOCK`; 845 MiB became 320 with 33.6 million parameters on two ranks, benchmarks/LOG.md).

It is done once, for the whole process, where the C library is glibc and a loop runs on the CPU.
``LOOPWRIGHT_ALLOCATOR=system`` in the environment leaves everything as it is.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of mallopt's options, from malloc.h."""
LARGEST_BLOCK = 32 << 20
"""glibc's own limit for blocks that it takes from the heap; larger ones are mapped anew each time."""
SMALL_BLOCK = 1 << 20
"""The largest that is kept where a model is sharded."""
TOP = 64 << 20
"""By how much the heap grows at once, at most."""

_done: bool | None = None


def keep_memory(largest: int = LARGEST_BLOCK) -> bool:
    """Tell glibc to keep freed memory; a second call does nothing. Returns whether it is told.

    Args:
        largest: blocks of more bytes go back to the system when they are freed.
    """
    global _done
    if _done is None:
        _done = _is_wanted() and _tell(largest)
    return _done


def _is_wanted() -> bool:
    asked = os.environ.get("LOOPWRIGHT_ALLOCATOR", "")
    preloaded = any(
        name in os.environ.get("LD_PRELOAD", "") for name in ("jemalloc", "tcmalloc", "mimalloc")
    )
    return asked != "system" and not preloaded and _is_glibc()


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, another C library
        return False


def _tell(largest: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # What fits into the top of the heap is taken from there, however large: it must not be larger.
    told = [
        mallopt(_MMAP_THRESHOLD, largest), mallopt(_TRIM_THRESHOLD, 2**31 - 1),
        mallopt(_TOP_PAD, min(TOP, 2 * largest)),
    ]  # fmt: skip
    return all(told)
