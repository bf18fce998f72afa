"""The largest batch that fits, found by trying."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from loopwright.errors import UsageError
from loopwright.train.measure.trial import restored
from loopwright.train.mishaps.memory import out_of_memory

__all__ = ["find_batch_size"]


def find_batch_size(
    try_step: Callable[[int], Any],
    start: int = 1,
    limit: int = 65536,
    *,
    model: nn.Module | None = None,
    optimizer: Optimizer | None = None,
) -> int:
    """Return the largest batch size up to ``limit`` for which ``try_step`` does not run out of memory.

    Doubles from ``start``, then halves the gap. On a CPU, systems that promise more memory than they
    have may end the process instead of refusing; there, set ``limit``.

    Args:
        try_step: trains once, in full, on a batch of that size: forward, backward, ``optimizer.step()``
            (whose state takes memory, too).
        start: where to begin; if it does not fit, smaller ones are tried.
        limit: never try more.
        model: put back bit for bit after each try, with random generators; None: nothing is.
        optimizer: likewise.

    Returns:
        The size. Leave some room below it: batches of unequal shapes and fragmentation take memory.

    >>> def try_step(size):
    ...     if size > 100:
    ...         raise MemoryError
    >>> find_batch_size(try_step)
    100

    Raises:
        UsageError: not even one sample fits, or ``start`` is not between 1 and ``limit``.
    """
    if not 1 <= start <= limit:
        raise UsageError(f"start={start} is not between 1 and limit={limit}.", slug="batch-size")

    def fits(size: int) -> bool:
        if model is None:
            return _fits(try_step, size)
        with restored(model, optimizer):
            return _fits(try_step, size)

    good = _largest(fits, start, limit)
    if good == 0:
        raise UsageError(
            "not even a batch of one sample fits into memory.",
            slug="batch-size",
            hint='try precision="bf16", checkpoint_activations, or a smaller model',
        )
    return good


def _largest(fits: Callable[[int], bool], start: int, limit: int) -> int:
    """Return the largest size up to ``limit`` that fits, 0 for none; each size is tried once."""
    good, bad = 0, None
    size = start
    while bad is None and good < limit:
        if fits(size):
            good, size = size, min(2 * size, limit)
        else:
            bad = size
    while bad is not None and bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _fits(try_step: Callable[[int], Any], size: int) -> bool:
    try:
        try_step(size)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # The traceback holds the frames, and these the tensors.
        error.__traceback__ = None
    else:
        return True
    gc.collect()
    if torch.accelerator.is_available():
        torch.get_device_module(torch.accelerator.current_accelerator()).empty_cache()
    return False
