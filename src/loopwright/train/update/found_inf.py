"""Optimizers that skip an update by a flag on the device, as torch's fused ones do: no wait to decide it."""

from __future__ import annotations

import torch
from torch import Tensor


def is_taken(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer leaves an update out where a tensor ``found_inf`` is 1."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and all(
        group.get("fused") for group in optimizer.param_groups
    )


def step(optimizer: torch.optim.Optimizer, flag: Tensor | None) -> None:
    """Step, or let the device leave it out where ``flag`` (0-d float32) is 1.

    Source: the attributes that ``torch.amp.GradScaler.step`` sets for the same purpose.
    """
    if flag is None:
        optimizer.step()
        return
    optimizer.grad_scale, optimizer.found_inf = None, flag  # pyrefly: ignore[missing-attribute]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # pyrefly: ignore[missing-attribute]
