"""torch's fused update of an optimizer that was made without it: one kernel, which rounds otherwise."""

from __future__ import annotations

import torch

from loopwright.errors import UsageError


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer make its updates by torch's fused kernel, from now on; its state stays.

    Args:
        optimizer: SGD, Adam, AdamW or Adagrad of torch's, or one with the same options.

    Raises:
        UsageError: it has no fused kernel, or an option that the kernel does not go with.

    Source: what ``torch.optim.Adam(fused=True)`` sets, and how ``load_state_dict`` brings state that was made
    without it into shape.
    """
    kind = type(optimizer).__name__
    if "fused" not in optimizer.defaults:
        raise UsageError(f"{kind} has no fused update in this torch", slug="not-fused")
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise UsageError(f"a fused update of {kind} is not differentiable", slug="not-fused")
    state = optimizer.state_dict()
    for group in (optimizer.defaults, *state["param_groups"]):
        group["fused"] = True
        if group.get("foreach"):
            group["foreach"] = None
    optimizer.load_state_dict(state)
    # torch's own names: the kernel takes found_inf; devices are looked at before the first step.
    for name in ("_step_supports_amp_scaling", "_need_device_dtype_check_for_fused"):
        setattr(optimizer, name, True)
