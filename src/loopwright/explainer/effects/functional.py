"""What a transform of ``torch.func`` was given, and what came out of it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loopwright.events import Event
from loopwright.explainer.effects.given import autocast, shapes
from loopwright.explainer.effects.wrapped import lanes


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
