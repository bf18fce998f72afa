"""Dividing the samples of a data set into a training, a validation and a test part."""

from __future__ import annotations

import torch
from torch import Tensor

from loopwright.errors import DataError


def three_parts(
    count: int, *, seed: int, valid: float = 0.1, test: float = 0.1, labels: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices of the training, validation and test samples: every sample in one of them.

    The test part depends on ``count``, ``test`` and ``labels`` alone, never on ``seed``: no choice
    made by a validation score, of whatever seed, has seen it. torch's generators are not touched.

    Args:
        count: number of samples.
        seed: which of the other samples validate.
        valid: share of all samples, 0 < valid.
        test: share of all samples, 0 < test, valid + test < 1.
        labels: shape ``(count,)``; given, every class has its share in each part.

    Raises:
        DataError: one of the parts would be empty.
    """
    rest, test_part = _take(torch.arange(count), test, 20_240_229, labels)
    train_part, valid_part = _take(rest, valid / (1 - test), seed, labels)
    if not (len(train_part) and len(valid_part) and len(test_part)):
        raise DataError(
            f"{count} samples are too few for a training, a validation and a test part",
            slug="too-few-samples",
        )
    return train_part, valid_part, test_part


def _take(indices: Tensor, share: float, seed: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide ``indices``: of the shuffled samples, by label if any, every 1/share-th is taken."""
    shuffled = indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))]
    if labels is not None:
        shuffled = shuffled[torch.sort(labels[shuffled], stable=True).indices]
    steps = (torch.arange(len(shuffled) + 1, dtype=torch.float64) * share + 0.5).floor()
    taken = steps[1:] > steps[:-1]
    return shuffled[~taken].sort().values, shuffled[taken].sort().values
