"""Tensors inside a transform of ``torch.func``, which puts something around them."""

from __future__ import annotations

import torch


def lanes(tensor: torch.Tensor) -> int:
    """How many tensors ``vmap`` holds as this one; 1 for an ordinary one."""
    found = 1
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        inner = torch._C._functorch.get_unwrapped(tensor)
        if torch._C._functorch.is_batchedtensor(tensor):
            found *= inner.shape[torch._C._functorch.maybe_get_bdim(tensor)]
        tensor = inner
    return found


def inside(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor that only gradients are taken of, without what a transform puts around it."""
    while torch._C._functorch.is_gradtrackingtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
