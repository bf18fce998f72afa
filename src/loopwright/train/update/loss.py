"""What a loss must be: one number with a graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from loopwright.errors import UsageError
from loopwright.train.callsite import CallSite, where


def check_loss(loss: Any, what: str, site: CallSite | None) -> None:
    """Refuse what cannot be a loss, at the user's line.

    Args:
        loss: anything.
        what: names it, "the loss of the criterion".
        site: the line to blame.
    """
    if not isinstance(loss, Tensor):
        raise UsageError(
            f"{what} is {'None' if loss is None else f'a {type(loss).__name__}'}, not a tensor",
            slug="loss-not-a-tensor", where=where(site),
            hint="the tensor itself: no .item(), no float()",
        )  # fmt: skip
    if loss.numel() != 1:
        raise UsageError(
            f"{what} has the shape {tuple(loss.shape)}, and is not one number",
            slug="loss-not-scalar", where=where(site), hint="loss.mean()",
        )  # fmt: skip
    if not loss.requires_grad:
        raise UsageError(
            f"{what} has no graph: no parameter takes part in it",
            slug="loss-not-attached", where=where(site),
            hint="it was computed from detached tensors, under torch.no_grad(), or everything "
            "is frozen",
        )  # fmt: skip


def loss_and_weight(result: Any) -> tuple[Any, Any]:
    """Return what a function of a batch gave: its loss, and its weight or None."""
    return result if isinstance(result, tuple) else (result, None)
