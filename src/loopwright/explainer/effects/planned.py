"""How far a parameter will move in the step that comes, computed in pieces on copies.

For parameters of which no copy is kept. Torch's own optimizers treat every element by itself, so a piece of
them at a time gives the exact change in the memory of a few pieces; a sample of the result is compared
with what the step then did.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch

from loopwright.explainer.effects import values
from loopwright.observe import content

ELEMENTWISE = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")
PIECE = 1 << 18
"""Elements that are stepped together: a few copies of 1 MB."""


@dataclass(slots=True)
class Planned:
    """The norms of the change and of the parameter, and a sample of where it will be."""

    delta: float
    norm: float
    sample: torch.Tensor


def plan(optimizer: Any, group: dict[str, Any], parameter: torch.Tensor) -> Planned | None:
    """What ``optimizer.step()`` will do to ``parameter``; None where that cannot be computed in pieces."""
    kind = type(optimizer)
    if kind.__name__ not in ELEMENTWISE or not kind.__module__.startswith("torch."):
        return None
    grad = parameter.grad
    if grad is None or not content.readable(grad) or grad.stride() != parameter.stride():
        return None
    takes = inspect.signature(kind.__init__).parameters
    options = {key: value for key, value in group.items() if key in takes and key != "params"}
    with values.quiet():
        flat, grads = values._flat(parameter), values._flat(grad)
        state = {
            key: values._flat(value)
            if isinstance(value, torch.Tensor) and value.numel() == flat.numel() > 1
            else value
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        after = content.sample(parameter)
        stride = max(1, flat.numel() // content.SAMPLED)
        deltas, norms = [], []
        for start in range(0, flat.numel(), PIECE):
            end = min(start + PIECE, flat.numel())
            moved = _step(kind, options, state, flat, grads, slice(start, end))
            deltas.append(values.difference(moved, flat[start:end]))
            norms.append(values.norm(flat[start:end]))
            for number in range(-(-start // stride), after.numel()):
                if number * stride >= end:
                    break
                after[number] = moved[number * stride - start]
    return Planned(values.together(deltas), values.together(norms), after)


def _step(kind: Any, options: dict[str, Any], state: dict[str, Any], flat: torch.Tensor,
          grads: torch.Tensor, piece: slice) -> torch.Tensor:  # fmt: skip
    """One piece after the step, on copies."""
    copied = torch.nn.Parameter(flat[piece].clone())
    copied.grad = grads[piece].clone()
    one = kind([copied], **options)
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            value = value[piece].clone() if value.numel() == flat.numel() > 1 else value.clone()
        one.state[copied][key] = value
    # Without its decorators: those call hooks that are the program's.
    inspect.unwrap(kind.step)(one)
    return copied.detach()
