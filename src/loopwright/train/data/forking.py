"""Iterators that fork workers in a process that uses a GPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def garbage_stays() -> Iterator[None]:
    """Have processes that are forked inside leave this process's objects alone.

    A collection in a worker would otherwise free tensors of the GPU that have become garbage here, and
    freeing one that was used on several streams calls the driver, which a forked process may not: it is
    aborted (torch 2.11: "initialization error" in ``CUDACachingAllocator``).
    """
    if not torch.cuda.is_initialized():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def iterator_of(loader: Any) -> Any:
    """Return ``iter(loader)``; what workers it forks are safe."""
    with garbage_stays():
        return iter(loader)
