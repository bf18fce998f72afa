"""What a call that is part of a step was given: roots, parameters, tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from loopwright.events import Event
from loopwright.explainer.effects import objects
from loopwright.observe.modules import traced


def given(event: Event, name: str, position: int) -> bool:
    """An argument of ``backward``, by its name or its position (the tensor is at 0)."""
    by_position = event.args[position] if len(event.args) > position else None
    return bool(event.kwargs.get(name, by_position))


def roots_of(event: Event) -> list[torch.Tensor]:
    """The tensors that a ``backward`` begins with."""
    if traced():
        return []
    first = event.subject if event.subject is not None else event.kwargs.get("tensors")
    listed = [first] if isinstance(first, torch.Tensor) else list(first or ())
    return [one for one in listed if isinstance(one, torch.Tensor)]


def parameters_of(subject: Any) -> list[torch.Tensor]:
    """Those of a module or an optimizer."""
    if isinstance(subject, torch.nn.Module):
        return list(subject.parameters())
    groups = getattr(subject, "param_groups", [])
    return [p for group in groups for p in group["params"] if isinstance(p, torch.Tensor)]


def first_tensors(items: Sequence[Any]) -> list[torch.Tensor]:
    """The first tensors in arguments or results."""
    return [one for item in items for _, one in objects.tensors_in(item, "")][:4]


def shapes(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Of the first tensors: shape and dtype."""
    return [
        {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
        for t in first_tensors(items)
    ]


def autocast() -> str:
    """The type that autocast casts to now; empty where it is off."""
    for kind in ("cuda", "cpu"):
        if torch.is_autocast_enabled(kind):
            return str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
    return ""
