"""torchmetrics' regression metrics and perplexity, in float64 and without synchronisation.

Imported only when one of them is asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from loopwright.errors import UsageError
from loopwright.train.metrics.device_sum import has_float64
from loopwright.train.metrics.meters import class_dim

__all__ = ["Perplexity", "ValueMetric"]


class ValueMetric:
    """``mae``, ``rmse`` or ``r2`` over all elements, made at the first batch.

    Args:
        name: one of those.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._metric: Any = None

    @torch.no_grad()
    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch; no synchronisation.

        Raises:
            UsageError: the shapes differ by more than a last dimension of 1.
        """
        outputs, target = _same_shape(self.name, outputs.detach(), target.detach())
        if self._metric is None:
            self._metric = self._make().to(outputs.device)
            self._metric.set_dtype(_wide(outputs))
        self._metric.update(outputs.to(_wide(outputs)), target.to(_wide(outputs)))

    def compute(self) -> Tensor:
        """Return torchmetrics' result (waits for the device); NaN when nothing was added.

        R² of fewer than two samples is NaN, too.
        """
        if self._metric is None or (self.name == "r2" and int(self._metric.total) < 2):
            return torch.tensor(torch.nan)
        return self._metric.compute()

    def reset(self) -> None:
        """Forget everything that was added."""
        if self._metric is not None:
            self._metric.reset()

    def _make(self) -> Any:
        from torchmetrics import regression

        if self.name == "mae":
            return regression.MeanAbsoluteError()
        if self.name == "rmse":
            return regression.MeanSquaredError(squared=False)
        return regression.R2Score()


class Perplexity:
    """``exp`` of the mean cross entropy over all targets that count.

    Args:
        ignore_index: targets of this value do not count.
    """

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self._metric: Any = None

    @torch.no_grad()
    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch of logits, classes last or in dimension 1; no synchronisation."""
        logits = outputs.detach().movedim(class_dim(outputs, target), -1).flatten(0, -2)
        if self._metric is None:
            from torchmetrics.text import Perplexity as Base

            # Its own update() goes through probabilities, which underflow, and a boolean mask.
            made = type("Perplexity", (Base,), {"update": _update_perplexity})
            self._metric = made(ignore_index=self.ignore_index).to(logits.device)
            self._metric.set_dtype(_wide(logits))
        self._metric.update(logits.to(_wide(logits)), target.detach().flatten())

    def compute(self) -> Tensor:
        """Return the perplexity (waits for the device); NaN when nothing counted."""
        if self._metric is None or not float(self._metric.count):
            return torch.tensor(torch.nan)
        return self._metric.compute()

    def reset(self) -> None:
        """Forget everything that was added."""
        if self._metric is not None:
            self._metric.reset()


def _update_perplexity(self: Any, preds: Tensor, target: Tensor) -> None:
    ignored = self.ignore_index
    self.total_log_probs += cross_entropy(preds, target, ignore_index=ignored, reduction="sum")
    self.count += (target != ignored).sum()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if has_float64(tensor.device) else torch.float32


def _same_shape(name: str, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if outputs.ndim == target.ndim + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    elif target.ndim == outputs.ndim + 1 and target.shape[-1] == 1:
        target = target.squeeze(-1)
    if outputs.shape != target.shape:
        raise UsageError(
            f"{name} got outputs of shape {tuple(outputs.shape)} and a target of shape "
            f"{tuple(target.shape)}, which torch would broadcast against each other.",
            slug="metric-shape",
        )
    return outputs, target
