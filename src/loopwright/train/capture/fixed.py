"""The numbers that the recording of an update has in it, and serves no other ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from loopwright.train.capture.state import counts_in_python, plain_options


def counts_on_the_host(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether an optimizer has a step counter that the host reads."""
    return any(
        isinstance(value, Tensor) and value.device != device
        for state in optimizer.state.values() for value in state.values()
    )  # fmt: skip


def numbers(optimizer: torch.optim.Optimizer, device: torch.device) -> list[Any] | None:
    """Return what an update's kernels are launched with; None where that is another thing each time."""
    if counts_in_python(optimizer) is not None or counts_on_the_host(optimizer, device):
        return None
    rates = [
        # a tensor on the device is read where it is, at each update
        id(rate) if isinstance(rate, Tensor) and rate.device == device else float(rate)
        for rate in (group["lr"] for group in optimizer.param_groups)
    ]
    return [*rates, *plain_options(optimizer)]


@contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let a fused optimizer be captured: its kernels are the same with and without the option."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group["capturable"] = value
