"""What a transform of ``torch.func`` was given, what came out of it, and tensors inside of one."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loopwright.events import Event
from loopwright.explainer.effects.given import autocast, shapes


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


def taken(event: Event) -> dict[str, Any]:
    """Of how many tensors gradients are, and in how many calls that ``vmap`` makes as one."""
    sizes = [lanes(one) for one in tree_leaves(event.args[3]) if isinstance(one, torch.Tensor)]
    return {"inputs": inputs(event), "at_once": max(sizes, default=1)}


def called(event: Event, name: str) -> dict[str, Any]:
    """Facts of ``functional_call``: those of a forward pass, and how many tensors the module is given."""
    module, own, args = (*event.args, None)[:3]
    return {
        "name": name, "kind": type(module).__name__, "training": module.training,
        "grad": torch.is_grad_enabled(), "inputs": shapes([args]), "given": len(tree_leaves(own)),
        "autocast": autocast(),
    }  # fmt: skip


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
