"""torchmetrics' classification metrics, updated without synchronisation.

torchmetrics itself picks targets by a boolean mask and counts with ``bincount``: both wait for a GPU.
These subclasses fill the same states from ``labels.count``; ``compute``, ``reset``, averaging and the
exchange between ranks stay torchmetrics'. Imported only when one of them is asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loopwright.errors import DataError, UsageError
from loopwright.train.metrics.labels import count, read_labels

__all__ = ["ClassMetric"]


class ClassMetric:
    """``f1``, ``precision``, ``recall`` or ``confusion_matrix``, made at the first batch.

    Args:
        name: one of those.
        classes: how many there are; None: as many as the outputs have logits.
        average: ``"macro"``, ``"micro"``, ``"weighted"`` or ``"none"``; two classes from one logit
            are scored for class 1, whatever the average.
        ignore_index: targets of this value do not count.
        threshold: for one logit per target; 0.0 for logits, 0.5 for probabilities.
        normalize: of the confusion matrix: None, ``"true"``, ``"pred"`` or ``"all"``.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int | None = None,
        average: str = "macro",
        ignore_index: int | None = -100,
        threshold: float = 0.0,
        normalize: str | None = None,
    ) -> None:
        if average not in ("macro", "micro", "weighted", "none"):
            raise UsageError(
                f"average is {average!r}; wanted is macro, micro, weighted or none.",
                slug="metric-setting",
            )
        self.name = name
        self.classes = classes
        self.average = average
        self.ignore_index = ignore_index
        self.threshold = threshold
        self.normalize = normalize
        self._metric: Any = None
        self._outside: Tensor | None = None

    @torch.no_grad()
    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch; no synchronisation.

        Raises:
            UsageError: the outputs are classes and it was not said how many there are.
        """
        predicted, target, classes, binary = read_labels(outputs, target, self.threshold)
        if self._metric is None:
            self._metric = self._make(self.classes or classes, binary=binary)
            self._metric.to(predicted.device)
        bins = self.classes or classes or 2
        keep = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_index is not None:
            keep = target != self.ignore_index
        inside = keep & (target >= 0) & (target < bins) & (predicted < bins)
        outside = (keep & ~inside).sum()
        self._outside = outside if self._outside is None else self._outside + outside
        self._metric.update(predicted, target, inside)

    def compute(self) -> Tensor:
        """Return torchmetrics' result (waits for the device); NaN when nothing was added.

        Raises:
            DataError: targets lay outside the classes.
        """
        if self._metric is None:
            return torch.tensor(torch.nan)
        if self._outside is not None and int(self._outside):
            raise DataError(
                f"{int(self._outside)} targets or predictions lie outside the "
                f"{self._metric.bins} classes that {self.name} counts.",
                slug="metric-classes",
                hint=f'say metric("{self.name}", classes=N), or ignore_index= for padding',
            )
        return self._metric.compute()

    def reset(self) -> None:
        """Forget everything that was added."""
        self._outside = None
        if self._metric is not None:
            self._metric.reset()

    def _make(self, classes: int | None, *, binary: bool) -> Any:
        if classes is None:
            raise UsageError(
                f"{self.name} got classes instead of logits and cannot know how many there are.",
                slug="metric-classes",
                hint=f'write metric("{self.name}", classes=10)',
            )
        from torchmetrics import classification

        kind = {"f1": "F1Score", "confusion_matrix": "ConfusionMatrix"}.get(
            self.name, self.name.capitalize()
        )
        matrix = self.name == "confusion_matrix"
        binary = binary and not matrix
        base = getattr(classification, ("Binary" if binary else "Multiclass") + kind)
        update = _update_binary if binary else _update_matrix if matrix else _update_classes
        settings: dict[str, Any] = {} if binary else {"num_classes": classes}
        if matrix:
            settings["normalize"] = self.normalize
        elif not binary:
            settings["average"] = self.average
        made = type(base.__name__, (base,), {"update": update, "bins": classes})
        return made(validate_args=False, **settings)


def _update_classes(self: Any, predicted: Tensor, target: Tensor, inside: Tensor) -> None:
    """Add true and false positives and negatives of every class (or of all, for "micro")."""
    hit = count(target, self.bins, inside & (predicted == target))
    positive, support = count(predicted, self.bins, inside), count(target, self.bins, inside)
    total = inside.sum()
    shape = self.tp.shape
    counts = (hit, positive - hit, total - positive - support + hit, support - hit)
    self._update_state(*(c if c.shape == shape else c.sum().reshape(shape) for c in counts))


def _update_binary(self: Any, predicted: Tensor, target: Tensor, inside: Tensor) -> None:
    """Add the four counts of class 1."""
    cells = count(target * 2 + predicted, 4, inside)
    true_negative, false_positive, false_negative, true_positive = cells.unbind()
    counts = (true_positive, false_positive, true_negative, false_negative)
    self._update_state(*(c.reshape(self.tp.shape) for c in counts))


def _update_matrix(self: Any, predicted: Tensor, target: Tensor, inside: Tensor) -> None:
    """Add to ``confmat[target][predicted]``."""
    cells = count(target * self.bins + predicted, self.bins**2, inside)
    self.confmat = self.confmat + cells.view(self.bins, self.bins)
