"""Splitting a data set for good, and weighing its classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from loopwright.errors import UsageError

__all__ = ["class_weights", "split"]


def class_weights(
    targets: Tensor | Sequence[int], classes: int | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return a weight for each class that lets rare classes count as much as frequent ones.

    With ``n_c`` samples of class ``c``, ``N`` in all, ``C`` classes and ``s`` the smoothing:
    ``w_c = (N + C·s) / (C · (n_c + s))``, scikit-learn's "balanced" for ``s = 0``.

    Args:
        targets: the training data's classes.
        classes: how many there are; None: one more than the largest.
        smoothing: samples that are added to each class; the larger, the nearer the weights to 1.

    Returns:
        float32 of shape ``(classes,)``, for ``CrossEntropyLoss(weight=...)``.

    >>> class_weights([0, 0, 0, 1])
    tensor([0.6667, 2.0000])

    Raises:
        UsageError: a target is no class, or a class does not occur and ``smoothing`` is 0.
    """
    labels = torch.as_tensor(targets).flatten().cpu()
    if labels.is_floating_point() or labels.numel() == 0 or int(labels.min()) < 0:
        raise UsageError(
            f"class_weights wants one class or more, numbered from 0; it got "
            f"{labels.numel()} targets of {labels.dtype}, from {labels.min() if len(labels) else '-'}.",
            slug="class-weights",
        )
    counts = torch.bincount(labels, minlength=classes or 0).double()
    if classes is not None and len(counts) > classes:
        raise UsageError(
            f"the targets go up to {len(counts) - 1}, and there are {classes} classes.",
            slug="class-weights",
        )
    missing = (counts + smoothing == 0).nonzero().flatten().tolist()
    if missing:
        raise UsageError(
            f"class {missing[0]} does not occur in the targets, so it has no weight.",
            slug="class-weights",
            hint="give class_weights(..., smoothing=1)",
        )
    counts += smoothing
    return (counts.sum() / (len(counts) * counts)).float()


def split(
    dataset: Any,
    fractions: Sequence[float | int],
    seed: int = 0,
    stratify: Tensor | Sequence[Any] | None = None,
) -> list[Subset[Any]]:
    """Split a data set at random into parts that are the same at every call.

    Neither the global generators nor their state take part. The parts keep the data set's order.

    Args:
        dataset: with ``len()`` and items by index.
        fractions: shares that add up to 1, or numbers of samples that add up to all.
        seed: another one gives another split.
        stratify: each sample's class; the parts then hold the classes in the data set's proportion.

    Returns:
        A ``torch.utils.data.Subset`` for each fraction.

    >>> train, valid, test = split(range(10), (0.8, 0.1, 0.1))
    >>> len(train), len(valid), len(test)
    (8, 1, 1)

    Raises:
        UsageError: the fractions do not add up, or leave a part empty.
    """
    total = len(dataset)
    sizes = _sizes(fractions, total)
    order = torch.randperm(total, generator=(random := torch.Generator().manual_seed(seed)))
    if stratify is not None:
        order = order[_interleaved(_classes(stratify, total)[order], random)]
    parts = order.split(sizes)
    return [Subset(dataset, part.sort().values.tolist()) for part in parts]


def _sizes(fractions: Sequence[float | int], total: int) -> list[int]:
    if not fractions or any(fraction <= 0 for fraction in fractions):
        raise UsageError(
            f"fractions {tuple(fractions)}: every part needs a positive share.",
            slug="split-fractions",
        )
    whole = all(isinstance(fraction, int) for fraction in fractions)
    given = sum(fractions)
    if whole and given == total:
        return [int(size) for size in fractions]
    if (whole and len(fractions) > 1) or abs(given - 1) > 1e-6:
        raise UsageError(
            f"fractions {tuple(fractions)} add up to {given:g}, not to 1 (or to all {total} samples).",
            slug="split-fractions",
        )
    # Rounding the running sum spreads the remainders, and the last part ends at the last sample.
    ends, running = [0], 0.0
    for fraction in fractions:
        running += fraction
        ends.append(round(running / given * total))
    sizes = [end - start for start, end in itertools.pairwise(ends)]
    if 0 in sizes:
        raise UsageError(
            f"fractions {tuple(fractions)} of {total} samples leave part {sizes.index(0)} empty.",
            slug="split-fractions",
        )
    return sizes


def _classes(stratify: Tensor | Sequence[Any], total: int) -> Tensor:
    if len(stratify) != total:
        raise UsageError(
            f"stratify has {len(stratify)} classes for {total} samples.", slug="split-stratify"
        )
    if isinstance(stratify, Tensor):
        return stratify.cpu().unique(return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in stratify])


def _interleaved(labels: Tensor, random: torch.Generator) -> Tensor:
    """Return an order in which every stretch holds the classes in their overall proportion.

    A class with n samples puts one into each n-th of the order.
    """
    by_class = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    jitter = torch.rand(len(labels), generator=random, dtype=torch.float64)
    return ((rank + jitter) / counts[labels]).argsort(stable=True)
