"""Gradients averaged over the ranks when they are needed: for several models, which DDP can't tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loopwright.parallel.world import World


@torch.no_grad()
def average_gradients(parameters: Sequence[Tensor], world: World) -> None:
    """Replace gradients by their means over the ranks; a rank without one has zeros.

    One message a type and device, and one that says who has what.
    """
    there = world.total([float(p.grad is not None) for p in parameters])
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for parameter, ranks in zip(parameters, there, strict=True):
        if not ranks:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif parameter.grad.layout != torch.strided:
            parameter.grad = parameter.grad.to_dense()
        kinds.setdefault((parameter.grad.dtype, parameter.grad.device), []).append(parameter.grad)
    for grads in kinds.values():
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        mean = world.total_tensor(flat) / world.size
        for grad, part in zip(grads, mean.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
