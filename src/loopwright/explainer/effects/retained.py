"""Tensors that are no leaves and were asked to keep their gradients (``retain_grad``)."""

from __future__ import annotations

from types import FrameType
from typing import Any

import torch

from loopwright.explainer.effects import values
from loopwright.observe.sites import variables

MOST = 4
"""Of them that are told of."""


def waiting(frame: FrameType | None) -> list[tuple[str, torch.Tensor]]:
    """Names and tensors of a frame that will keep their gradient and have none yet."""
    space = {} if frame is None else variables(frame)
    return [
        (name, one)
        for name, one in list(space.items())
        if isinstance(one, torch.Tensor)
        and not one.is_leaf
        and one.retains_grad
        and one.grad is None
    ][:MOST]


def kept(before: list[tuple[str, torch.Tensor]]) -> list[dict[str, Any]]:
    """What a backward pass wrote to them: name, norm, and the numbers where they are few."""
    found = [(name, one.grad) for name, one in before if one.grad is not None]
    notes = [(name, values.summary(grad, name)) for name, grad in found]
    return [{"name": name, "norm": one.norm, "values": one.values} for name, one in notes]
