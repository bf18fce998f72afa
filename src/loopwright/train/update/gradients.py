"""Arithmetic on an update's gradients: normalise, measure, clip; in place, without a sync of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loopwright.errors import UsageError


@dataclass(frozen=True, slots=True)
class Clip:
    """How gradients are clipped: their global L2 ``norm``, or each element's absolute ``value``."""

    norm: float | None = None
    value: float | None = None


def parse_clip(clip: float | str | Clip | None) -> Clip | None:
    """Return the rule that ``clip`` asks for.

    Args:
        clip: a number (largest global norm), ``"norm:1.0"``, ``"value:0.5"``, None for no clipping.

    Raises:
        UsageError: not a finite number above 0.
    """
    if clip is None or isinstance(clip, Clip):
        return clip
    kind, number = "norm", clip
    if isinstance(clip, str):
        kind, _, number = clip.rpartition(":") if ":" in clip else ("norm", "", clip)
    try:
        limit = math.nan if isinstance(number, bool) else float(number)
    except (TypeError, ValueError):
        limit = math.nan
    if kind not in ("norm", "value") or not (0 < limit < math.inf):
        raise UsageError(
            f"clip must be a number above 0, got {clip!r}",
            slug="clip-out-of-range",
            hint='clip=1.0 (global norm), clip="value:0.5" (each element)',
        )
    return Clip(**{kind: limit})


Groups = list[tuple[dict[str, Any], list[Tensor], list[Tensor]]]
"""A group of an optimizer each: itself, its parameters that hold a gradient, and those gradients."""


def by_group(optimizer: torch.optim.Optimizer) -> Groups:
    """Return the gradients that are there, each beside its parameter."""
    found: Groups = []
    for group in optimizer.param_groups:
        params, grads = [], []
        for parameter in group["params"]:
            if (grad := parameter.grad) is not None:
                params.append(parameter)
                grads.append(grad)
        found.append((group, params, grads))
    return found


def of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients that are there; of sharded ones, this rank's parts."""
    return local([p.grad for p in parameters if p.grad is not None])


def local(grads: list[Tensor]) -> list[Tensor]:
    """Return gradients, of sharded ones this rank's parts."""
    if grads and type(grads[0]) is not Tensor:
        return [getattr(grad, "_local_tensor", grad) for grad in grads]
    return grads


def scale(grads: list[Tensor], factor: float | Tensor) -> None:
    """Multiply every gradient by ``factor`` in place."""
    dense: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        if grad.layout == torch.strided:
            dense.setdefault(grad.device, []).append(grad)
    for some in dense.values():
        torch._foreach_mul_(some, _on(factor, some[0]))
    for grad in grads:
        if grad.layout != torch.strided:
            grad.mul_(_on(factor, grad))


def _on(factor: float | Tensor, like: Tensor) -> float | Tensor:
    """A 0-d factor where the gradients are, in a dtype that does not change theirs."""
    if isinstance(factor, Tensor):
        # foreach wants the factor's dtype to promote to the gradients' own; 0-d tensors do.
        return factor.to(like.device)
    return factor


def are_alike(grads: list[Tensor]) -> bool:
    """Return whether all are dense, on one device and of one dtype."""
    device, dtype, strided = grads[0].device, grads[0].dtype, torch.strided
    for g in grads:  # noqa: SIM110 - all(…) of a generator takes 1.5 µs more for four of them
        if g.dtype != dtype or g.device != device or g.layout != strided:
            return False
    return True


def norm(grads: list[Tensor], alike: bool | None = None) -> Tensor:
    """Return the global L2 norm, bit for bit what ``torch.nn.utils.clip_grad_norm_`` computes.

    Sparse gradients, which that function refuses, count with the values that they store.

    Args:
        grads: at least one.
        alike: what `are_alike` says of them, where it is known.
    """
    if are_alike(grads) if alike is None else alike:
        # The same two operations as torch's function without its sorting by device and dtype:
        # 11 µs instead of 31 for four small gradients.
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2.0)), 2.0)
    return torch.nn.utils.get_total_norm([stored(g) for g in grads])


def exact_norm(grads: list[Tensor]) -> float:
    """Return the norm in float64, for gradients whose squares overflow their own type."""
    return math.sqrt(sum(float(stored(g).double().square().sum()) for g in grads))


def stored(grad: Tensor) -> Tensor:
    """Return the gradient, or of a sparse one its values, each position once."""
    if grad.layout == torch.strided:
        return grad
    return (grad.coalesce() if grad.layout == torch.sparse_coo else grad).values()


def clip_norm(grads: list[Tensor], total: Tensor, largest: float) -> None:
    """Scale the gradients so that a global norm of ``total`` becomes at most ``largest``.

    Equation: g <- g * min(1, largest / (total + 1e-6)), the arithmetic of
    ``torch.nn.utils.clip_grads_with_norm_``.
    """
    scale(grads, torch.clamp(largest / (total + 1e-6), max=1.0))


def clip_value(grads: list[Tensor], largest: float) -> None:
    """Clamp every element to [-largest, largest] in place."""
    dense = [g for g in grads if g.layout == torch.strided]
    if dense:
        torch._foreach_clamp_min_(dense, -largest)
        torch._foreach_clamp_max_(dense, largest)
    for grad in grads:
        if grad.layout == torch.sparse_coo:
            # Rows that stand there several times are one element each only when they are added up.
            whole = grad.coalesce()
            whole.values().clamp_(-largest, largest)
            grad.copy_(whole)
        elif grad.layout != torch.strided:
            grad.values().clamp_(-largest, largest)
