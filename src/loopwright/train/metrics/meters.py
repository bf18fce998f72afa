"""Averages that cost the training loop no synchronisation: ``Mean``, ``Sum``, ``Accuracy``.

All speak torchmetrics' words: ``update`` adds a batch and never reads anything back from the device,
``compute`` returns a ``float`` (and waits for the device), ``reset`` begins anew.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from loopwright.errors import UsageError
from loopwright.parallel import current
from loopwright.train.metrics.device_sum import DeviceSum, has_float64

__all__ = ["Accuracy", "Mean", "Sum"]


class Mean:
    """The mean over every element that was ever given, however unequal the batches.

    The sum stays on the tensors' device, in float64 where the device has it, otherwise in compensated
    float32. A NaN stays a NaN; the mean of nothing is NaN.

    >>> mean = Mean()
    >>> mean.update(torch.tensor([1.0, 2.0, 3.0]))
    >>> mean.update(torch.tensor([10.0]))
    >>> mean.compute()
    4.0

    A batch's mean loss counts for as many samples as the batch had:

    >>> loss = Mean()
    >>> loss.update(torch.tensor(0.5), weight=32)
    >>> loss.update(torch.tensor(1.0), weight=8)
    >>> loss.compute()
    0.6
    """

    def __init__(self) -> None:
        self.reset()

    @torch.no_grad()
    def update(self, values: Tensor | float, weight: Tensor | float | None = None) -> None:
        """Add ``values``; no synchronisation.

        Args:
            values: a number or a tensor of any shape; each element counts once.
            weight: how much each element counts, broadcast to the shape of ``values``: a number of
                samples, a mask, a number of tokens. None: 1.
        """
        if current.PADDING:
            return
        if not isinstance(values, Tensor):
            if isinstance(weight, Tensor):
                values = torch.as_tensor(values, dtype=torch.float32, device=weight.device)
            else:
                number = 1.0 if weight is None else float(weight)
                self._sum.add(float(values) * number)
                self._weight.add(number)
                return
        if weight is None:
            self._sum.add(values)
            self._weight.add(values.numel())
        elif isinstance(weight, Tensor):
            values, weight = torch.broadcast_tensors(values, weight)
            self._sum.add(_product(values, weight))
            self._weight.add(weight)
        else:
            self._sum.add(_product(values, float(weight)))
            self._weight.add(float(weight) * values.numel())

    def tensor(self) -> Tensor:
        """Return the mean as a 0-d tensor on its device, without waiting for it."""
        total, weight = self._sum.tensor(), self._weight.tensor()
        if weight.device != total.device:
            weight = weight.to(total.dtype).to(total.device, non_blocking=True)
        # 0/0 is NaN; a sum of weights of exactly 0 must not turn a rounding error into inf.
        return torch.where(weight == 0, torch.nan, total / weight)

    def parts(self) -> tuple[str, Tensor, Tensor]:
        """Return what a mean over several ranks is made of: this one's sum and weight."""
        return "mean", self._sum.tensor(), self._weight.tensor()

    def compute(self) -> float:
        """Return the mean (waits for the device); NaN when nothing was added.

        Among several ranks it is the mean over all, and every rank has to ask for it.
        """
        if current.WORLD is None:
            return float(self.tensor())
        total, weight = current.WORLD.total([float(part) for part in self.parts()[1:]])
        return total / weight if weight else math.nan

    def reset(self) -> None:
        """Forget everything that was added."""
        self._sum = DeviceSum()
        self._weight = DeviceSum()

    def state_dict(self) -> dict[str, Any]:
        """Return the exact state as CPU tensors."""
        return {"sum": self._sum.state(), "weight": self._weight.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict()`` was taken, bit for bit."""
        self._sum.load(state["sum"])
        self._weight.load(state["weight"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({float(self.tensor()):.6g})"


def _product(values: Tensor, weight: Tensor | float) -> Tensor:
    """Multiply in float64 where there is one: half precision would lose the mean here."""
    return values.to(torch.float64 if has_float64(values.device) else torch.float32) * weight


class Sum:
    """The sum over every element that was ever given; 0.0 when nothing was.

    >>> tokens = Sum()
    >>> tokens.update(torch.tensor([3, 4]))
    >>> tokens.update(5)
    >>> tokens.compute()
    12.0
    """

    def __init__(self) -> None:
        self.reset()

    def update(self, values: Tensor | float) -> None:
        """Add every element of ``values``; no synchronisation."""
        if not current.PADDING:
            self._sum.add(values)

    def tensor(self) -> Tensor:
        """Return the sum as a 0-d tensor on its device, without waiting for it."""
        return self._sum.tensor()

    def parts(self) -> tuple[str, Tensor, float]:
        """Return what a sum over several ranks is made of."""
        return "sum", self._sum.tensor(), 1.0

    def compute(self) -> float:
        """Return the sum (waits for the device); among several ranks over all, and every one has to ask."""
        if current.WORLD is None:
            return float(self.tensor())
        return current.WORLD.total([float(self.tensor())])[0]

    def reset(self) -> None:
        """Forget everything that was added."""
        self._sum = DeviceSum()

    def state_dict(self) -> dict[str, Any]:
        """Return the exact state as CPU tensors."""
        return {"sum": self._sum.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict()`` was taken, bit for bit."""
        self._sum.load(state["sum"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({float(self.tensor()):.6g})"


class Accuracy:
    """The share of targets that the model's outputs hit.

    What the outputs are is told by their shape and type:

    ======================  =================  ==================================================
    outputs                 target             a hit is
    ======================  =================  ==================================================
    ``(N, C, ...)``         ``(N, ...)``       the class with the largest logit (``top_k``: among them)
    ``(N, ..., C)``         ``(N, ...)``       the same, for models that put the classes last
    float, target's shape   0 or 1             logit > ``threshold`` equals the target (each element)
    ``(N, 1)`` float        ``(N,)`` of 0, 1   the same
    int, target's shape     int                equal
    ======================  =================  ==================================================

    Args:
        top_k: how many of the largest logits may hold the target.
        ignore_index: targets of this value do not count (padding).
        threshold: for one logit per target; 0.0 for logits, 0.5 for probabilities.

    >>> accuracy = Accuracy()
    >>> accuracy.update(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    >>> accuracy.compute()
    0.5
    """

    def __init__(
        self, top_k: int = 1, ignore_index: int | None = None, threshold: float = 0.0
    ) -> None:
        if top_k < 1:
            raise UsageError(f"top_k is {top_k}; it counts classes.", slug="metric-setting")
        self.top_k = top_k
        self.ignore_index = ignore_index
        self.threshold = threshold
        self._mean = Mean()

    @torch.no_grad()
    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch; no synchronisation.

        Raises:
            UsageError: the shapes fit none of the rows above, or there are fewer than ``top_k`` classes.
        """
        hit = self._hits(outputs.detach(), target.detach())
        if self.ignore_index is None:
            self._mean.update(hit)
        else:
            kept = target.reshape(hit.shape) != self.ignore_index
            self._mean.update(hit, kept)

    def tensor(self) -> Tensor:
        """Return the accuracy as a 0-d tensor on its device, without waiting for it."""
        return self._mean.tensor()

    def parts(self) -> tuple[str, Tensor, Tensor]:
        """Return what the accuracy over several ranks is made of: hits and targets."""
        return self._mean.parts()

    def compute(self) -> float:
        """Return the accuracy between 0 and 1 (waits for the device); NaN when nothing counted."""
        return self._mean.compute()

    def reset(self) -> None:
        """Forget everything that was added."""
        self._mean.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the exact state as CPU tensors."""
        return self._mean.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict()`` was taken, bit for bit."""
        self._mean.load_state_dict(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({float(self.tensor()):.6g})"

    def _hits(self, outputs: Tensor, target: Tensor) -> Tensor:
        single = outputs.ndim == target.ndim + 1 and outputs.shape[-1] == 1
        if single and outputs.shape[:-1] == target.shape:
            outputs = outputs.squeeze(-1)
        if outputs.shape == target.shape:
            if outputs.is_floating_point():
                return (outputs > self.threshold) == (target > 0.5)
            return outputs == target
        dim = class_dim(outputs, target)
        if self.top_k == 1:
            return outputs.argmax(dim) == target
        if outputs.shape[dim] < self.top_k:
            raise UsageError(
                f"top_k is {self.top_k}, but the outputs of shape {tuple(outputs.shape)} "
                f"hold {outputs.shape[dim]} classes.",
                slug="metric-setting",
            )
        best = outputs.topk(self.top_k, dim=dim).indices
        return (best == target.unsqueeze(dim)).any(dim)


def class_dim(outputs: Tensor, target: Tensor) -> int:
    """Return the dimension of ``outputs`` that holds the classes: 1 as in cross_entropy, or the last.

    >>> class_dim(torch.zeros(8, 10), torch.zeros(8))
    1
    >>> class_dim(torch.zeros(8, 64, 256), torch.zeros(8, 64))
    2

    Raises:
        UsageError: neither of them, taken out, leaves the shape of ``target``.
    """
    shape = outputs.shape
    if outputs.ndim == target.ndim + 1 and outputs.ndim > 1:
        if shape[:1] + shape[2:] == target.shape:
            return 1
        if shape[:-1] == target.shape:
            return outputs.ndim - 1
    elif outputs.ndim == 1 and target.ndim == 0:
        return 0
    raise UsageError(
        f"outputs of shape {tuple(shape)} do not fit a target of shape {tuple(target.shape)}: "
        "the same shape, or one more dimension for the classes, is wanted.",
        slug="metric-shape",
        hint="outputs (N, C) with target (N,); for one-hot targets give target.argmax(1)",
    )
