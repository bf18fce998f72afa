"""From a model's outputs to predicted classes, and counts of them, without synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from loopwright.errors import UsageError
from loopwright.train.metrics.meters import class_dim

__all__ = ["Labels", "count", "read_labels"]


class Labels(NamedTuple):
    """Predicted and true classes, flat, and how many classes the outputs tell of.

    ``classes`` is None where the outputs are classes themselves; it is 2 for one logit per
    target, and then ``binary`` holds.
    """

    predicted: Tensor
    target: Tensor
    classes: int | None
    binary: bool = False


def read_labels(outputs: Tensor, target: Tensor, threshold: float = 0.0) -> Labels:
    """Read ``outputs`` as ``Accuracy`` does (see its table) and return flat classes.

    Args:
        outputs: logits per class, one float logit per target, or integer classes.
        target: integer classes, or 0 and 1 of any type.
        threshold: for one logit per target; 0.0 for logits, 0.5 for probabilities.

    >>> read_labels(torch.tensor([[0.1, 0.9], [2.0, 1.0]]), torch.tensor([1, 1]))
    Labels(predicted=tensor([1, 0]), target=tensor([1, 1]), classes=2, binary=False)

    Raises:
        UsageError: the shapes do not fit, or there are several yes-or-no answers for each sample.
    """
    outputs, target = outputs.detach(), target.detach()
    single = outputs.ndim == target.ndim + 1 and outputs.shape[-1] == 1
    if single and outputs.shape[:-1] == target.shape:
        outputs = outputs.squeeze(-1)
    if outputs.shape != target.shape:
        dim = class_dim(outputs, target)
        return Labels(outputs.argmax(dim).flatten(), target.flatten().long(), outputs.shape[dim])
    if not outputs.is_floating_point():
        return Labels(outputs.flatten().long(), target.flatten().long(), None)
    if outputs.ndim > 1 and outputs.shape[1:].numel() > 1:
        raise UsageError(
            f"outputs and target of shape {tuple(outputs.shape)} are several yes-or-no answers for "
            "each sample, and classes were expected.",
            slug="metric-shape",
            hint="give torchmetrics.classification's Multilabel... object instead of a name",
        )
    predicted = (outputs > threshold).flatten().long()
    return Labels(predicted, target.flatten().long(), 2, binary=True)


def count(index: Tensor, bins: int, where: Tensor) -> Tensor:
    """Count how often each of ``0 .. bins-1`` occurs in ``index`` where ``where`` holds; no sync.

    ``torch.bincount`` would read the largest index back from a GPU, and a mask the number of hits.

    >>> count(torch.tensor([0, 2, 2, 7]), 3, torch.tensor([True, True, True, False]))
    tensor([1, 0, 2])
    """
    counts = torch.zeros(bins + 1, dtype=torch.int64, device=index.device)
    index = torch.where(where, index, bins)
    return counts.scatter_add_(0, index, torch.ones_like(index))[:bins]
