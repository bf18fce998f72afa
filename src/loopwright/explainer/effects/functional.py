"""What a call of a function from ``torch.func.grad`` was given, and what came out of it."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_leaves

from loopwright.events import Event


def inputs(event: Event) -> int:
    """Of how many tensors gradients are returned."""
    chosen = event.args[1] if isinstance(event.args[1], tuple) else (event.args[1],)
    return len(tree_leaves([event.args[3][at] for at in chosen]))


def losses(event: Event) -> list[torch.Tensor]:
    """What the gradient was taken of; empty for another event, and where it is hidden."""
    if event.kind != "func_grad" or event.result is None:
        return []
    _, value = event.result
    value = value[0] if event.args[2] else value  # has_aux
    return [value] if isinstance(value, torch.Tensor) else []
