"""A learning-rate range test: train a few steps with a growing learning rate and look at the loss.

Source: Smith 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from loopwright.errors import DataError, UsageError
from loopwright.train.data.batches import map_tensors
from loopwright.train.measure.trial import restored

__all__ = ["LrRange", "lr_range_test"]

_DIVERGED = 4.0
_SMOOTHING = 0.9
_FALL = 0.01


@dataclass(frozen=True, slots=True)
class LrRange:
    """The curve of a learning-rate range test; ``print`` draws it, a notebook shows it.

    Attributes:
        lrs: learning rates, from low to high, as far as the loss held.
        losses: of each step's batch.
        smoothed: their moving average, corrected for its beginning.
        suggestion: where the smoothed loss falls fastest; None where it falls by less
            than a hundredth.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def __str__(self) -> str:
        return f"{_plot(self)}\n{self._said()}"

    def _repr_html_(self) -> str:
        return f"{_svg(self)}<p>{escape(self._said())}</p>"

    def _said(self) -> str:
        if self.suggestion is None:
            return "no suggestion: the loss does not fall at any of these learning rates"
        return f"suggestion: lr={self.suggestion:.2g}, where the loss falls fastest"


def lr_range_test(
    model: nn.Module,
    optimizer: Optimizer,
    criterion: Callable[[Any, Any], torch.Tensor] | None,
    loader: Iterable[Any],
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    *,
    compute_loss: Callable[[nn.Module, Any], torch.Tensor] | None = None,
) -> LrRange:
    """Train ``steps`` steps with a learning rate from ``low`` to ``high`` and return the curve.

    Model, optimizer, modes and random generators (the loader's, too) are afterwards what they were, bit
    for bit. The test ends early where the loss is four times its best, or not finite.

    Args:
        model: trained and put back.
        optimizer: the kind that will train; its groups keep the ratios of their learning rates.
        criterion: from outputs and target to a loss; None with ``compute_loss``.
        loader: batches ``(inputs, target)``; begun again when it ends.
        low: first learning rate, of the first group.
        high: last learning rate.
        steps: how many, each a factor further.
        compute_loss: from model and batch to a loss, for other batches.

    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> found = lr_range_test(
    ...     model, sgd, nn.MSELoss(), [(torch.ones(8, 1), torch.ones(8, 1))], steps=50
    ... )
    >>> found.suggestion > 1e-4, sgd.param_groups[0]["lr"]
    (True, 1.0)

    Raises:
        UsageError: the range is none.
        DataError: the loader is empty.
    """
    if not 0 < low < high or steps < 2:
        raise UsageError(
            f"a range from {low} to {high} in {steps} steps is none: 0 < low < high, 2 steps or more.",
            slug="lr-range",
        )
    device = next(model.parameters()).device
    loss_of = compute_loss or _criterion_loss(criterion)
    first = float(optimizer.param_groups[0]["lr"])
    ratios = [float(g["lr"]) / first if first else 1.0 for g in optimizer.param_groups]
    lrs: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    with restored(model, optimizer, loader), torch.enable_grad():
        batches = _cycle(loader)
        for step in range(steps):
            lr = low * (high / low) ** (step / (steps - 1))
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                _set_lr(group, lr * ratio)
            optimizer.zero_grad()
            batch = map_tensors(next(batches), lambda part: part.to(device))
            loss = loss_of(model, batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                break
            average = _SMOOTHING * average + (1 - _SMOOTHING) * value
            lrs.append(lr)
            losses.append(value)
            smoothed.append(average / (1 - _SMOOTHING ** (step + 1)))
            if smoothed[-1] > _DIVERGED * min(smoothed) > 0:
                break
            loss.backward()
            optimizer.step()
    return LrRange(lrs, losses, smoothed, _suggest(lrs, smoothed))


def _criterion_loss(
    criterion: Callable[[Any, Any], torch.Tensor] | None,
) -> Callable[[nn.Module, Any], torch.Tensor]:
    if criterion is None:
        raise UsageError(
            "there is neither a criterion nor a compute_loss.",
            slug="lr-range",
            hint="give lr_range_test(model, optimizer, nn.CrossEntropyLoss(), loader)",
        )
    return lambda model, batch: criterion(model(batch[0]), batch[1])


def _suggest(lrs: list[float], smoothed: list[float]) -> float | None:
    """Return the learning rate of the steepest fall before the lowest point.

    Slopes are taken over a twentieth of the curve to either side, and not in its first tenth, where the
    average is still one of few batches.
    """
    reach = max(1, len(lrs) // 20)
    begin = max(reach, len(lrs) // 10)
    if len(lrs) < 2 * reach + 2:
        return None
    lowest = min(range(begin, len(smoothed)), key=smoothed.__getitem__)
    if smoothed[begin] - smoothed[lowest] <= _FALL * abs(smoothed[begin]):
        return None
    within = range(begin, min(lowest + 1, len(smoothed) - reach))
    slopes = {i: smoothed[i + reach] - smoothed[i - reach] for i in within}
    return lrs[min(slopes, key=slopes.__getitem__)] if slopes else None


def _cycle(loader: Iterable[Any]) -> Any:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise DataError("the loader gave no batch.", slug="empty-loader")


def _set_lr(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def _plot(found: LrRange, width: int = 64, height: int = 12) -> str:
    """Draw the smoothed loss over the learning rate's logarithm in characters."""
    if not found.lrs:
        return "(no step had a finite loss)"
    low, high = min(found.smoothed), max(found.smoothed)
    rows = [[" "] * width for _ in range(height)]
    for column in range(width):
        index = round(column / (width - 1) * (len(found.lrs) - 1))
        share = (found.smoothed[index] - low) / ((high - low) or 1.0)
        rows[round((1 - share) * (height - 1))][column] = "*"
    labels = {0: f"{high:.3g}", height - 1: f"{low:.3g}"}
    lines = [f"{labels.get(i, ''):>9} |{''.join(row).rstrip()}" for i, row in enumerate(rows)]
    axis = f"{'':>9} +{'-' * width}"
    ends = f"{'':>10} {found.lrs[0]:<.1e}{found.lrs[-1]:>{width - 7}.1e}"
    return "\n".join([f"{'loss':>9}", *lines, axis, ends])


def _svg(found: LrRange, width: int = 480, height: int = 200) -> str:
    """Draw the same as an SVG with a logarithmic axis."""
    if not found.lrs:
        return "<p>no step had a finite loss</p>"
    left, bottom = 48, 22
    begin, end = math.log10(found.lrs[0]), math.log10(found.lrs[-1])
    low, high = min(found.smoothed), max(found.smoothed)

    def x(lr: float) -> float:
        return left + (math.log10(lr) - begin) / ((end - begin) or 1.0) * (width - left - 8)

    def y(loss: float) -> float:
        return 8 + (high - loss) / ((high - low) or 1.0) * (height - bottom - 8)

    points = " ".join(
        f"{x(lr):.1f},{y(loss):.1f}" for lr, loss in zip(found.lrs, found.smoothed, strict=True)
    )
    ticks = "".join(
        f'<text x="{x(10.0**power):.1f}" y="{height - 6}" text-anchor="middle">1e{power}</text>'
        for power in range(math.ceil(begin), math.floor(end) + 1)
    )
    mark = ""
    if found.suggestion is not None:
        at = f"{x(found.suggestion):.1f}"
        mark = (
            f'<line x1="{at}" x2="{at}" y1="8" y2="{height - bottom}" stroke="#dd6b2f" '
            'stroke-dasharray="4 3"/>'
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss over learning rate" '
        f'style="max-width:{width}px;width:100%" font-size="11" font-family="system-ui,sans-serif" '
        f'fill="currentColor"><text x="4" y="16">{high:.3g}</text>'
        f'<text x="4" y="{height - bottom}">{low:.3g}</text>{ticks}{mark}'
        f'<polyline points="{points}" fill="none" stroke="#3f7ddb" stroke-width="2"/></svg>'
    )
