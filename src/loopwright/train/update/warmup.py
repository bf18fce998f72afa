"""Learning rates in closed form: a linear warm-up, then constant, a line or half a cosine.

With the base learning rate 1, ``T`` updates of which ``W`` warm up, and ``t`` updates done::

    warm-up, t < W      (t + 1) / (W + 1)                     the first update is not wasted on 0
    constant            1
    linear              f + (1 - f) · (1 - p)                 p = min((t - W) / (T - W), 1)
    cosine              f + (1 - f) · (1 + cos(π p)) / 2      f = final

Without a warm-up the cosine is ``torch.optim.lr_scheduler.CosineAnnealingLR(T)``.

Source: Loshchilov and Hutter 2017, arXiv:1608.03983; Goyal et al. 2017, arXiv:1706.02677.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from loopwright.errors import LoopwrightWarning, UsageError

__all__ = ["Warmup", "WarmupLR", "warmup_constant", "warmup_cosine", "warmup_linear"]

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Warmup:
    """A schedule whose length is not known yet; ``build`` makes the scheduler.

    Args:
        shape: what comes after the warm-up.
        warmup: updates (int), or the share of all updates (float below 1).
        final: the last learning rate as a share of the base learning rate.
    """

    shape: Shape
    warmup: float
    final: float = 0.0

    def __post_init__(self) -> None:
        share = isinstance(self.warmup, float)
        if self.warmup < 0 or (share and not self.warmup < 1):
            raise UsageError(
                f"warmup is {self.warmup!r}; wanted is a number of updates (int) or a share of them "
                "(float, at least 0 and below 1).",
                slug="schedule-warmup",
            )
        if not 0 <= self.final <= 1:
            raise UsageError(
                f"final is {self.final!r}; it is a share of the learning rate, from 0 to 1.",
                slug="schedule-final",
            )

    @property
    def needs_length(self) -> bool:
        """Whether the number of updates shapes the schedule."""
        return self.shape != "constant" or isinstance(self.warmup, float)

    def factor(self, update: int, total: int | None) -> float:
        """Return what the base learning rate is multiplied by once ``update`` updates are done.

        >>> warmup_cosine(warmup=0).factor(50, total=100)
        0.5
        """
        warm = self.warmup_updates(total)
        if update < warm:
            return (update + 1) / (warm + 1)
        if self.shape == "constant" or total is None:
            return 1.0
        progress = min((update - warm) / max(total - warm, 1), 1.0)
        rest = 1 - progress if self.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final + (1 - self.final) * rest

    def warmup_updates(self, total: int | None) -> int:
        """Return how many updates of ``total`` warm up."""
        if isinstance(self.warmup, int):
            return self.warmup
        return round(self.warmup * (total or 0))

    def build(self, optimizer: Optimizer, total_updates: int | None) -> WarmupLR:
        """Make the scheduler for ``optimizer`` and a loop of ``total_updates`` updates."""
        return WarmupLR(optimizer, self, total_updates)


class WarmupLR(LRScheduler):
    """The torch scheduler of a ``Warmup``: every group's own learning rate times one factor.

    Its ``state_dict`` holds numbers and a word, nothing that needs pickle.
    """

    def __init__(self, optimizer: Optimizer, warmup: Warmup, total: int | None) -> None:
        if total is None and warmup.needs_length:
            raise UsageError(
                f"warmup_{warmup.shape} needs to know the number of updates.",
                slug="schedule-length",
            )
        warm = warmup.warmup_updates(total)
        if total is not None and 0 < total <= warm:
            warnings.warn(
                LoopwrightWarning(
                    f"the warm-up takes {warm} updates and the loop has {total}: the learning rate "
                    "never reaches its full value. Write warmup=0.05 for a share of the loop."
                ),
                stacklevel=2,
            )
        self.warmup = warmup
        self.total = total
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return each group's learning rate at ``last_epoch``, which here counts updates."""
        factor = self.warmup.factor(self.last_epoch, self.total)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the count of updates, the base learning rates and the shape."""
        return {
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "base_lrs": [float(base) for base in self.base_lrs],
            "last_lr": [float(lr) for lr in self._last_lr],
            "shape": self.warmup.shape,
            "warmup": self.warmup.warmup,
            "final": self.warmup.final,
            "total": self.total,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the saved count; this scheduler's own length stays, with a warning if it differs."""
        if state_dict["total"] != self.total:
            warnings.warn(
                LoopwrightWarning(
                    f"the loop had {state_dict['total']} updates and now has {self.total}: from here "
                    "the learning rate follows the new length."
                ),
                stacklevel=2,
            )
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = int(state_dict["step_count"])
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["last_lr"])


def warmup_cosine(warmup: float = 0.05, final: float = 0.0) -> Warmup:
    """Warm up in a line, then fall along half a cosine to ``final`` at the loop's end, per update.

    Args:
        warmup: updates (int), or the share of all updates (float below 1).
        final: the last learning rate as a share of the base learning rate.

    >>> schedule = warmup_cosine(warmup=10)
    >>> [schedule.factor(update, total=110) for update in (0, 10, 60, 110)]
    [0.09090909090909091, 1.0, 0.5, 0.0]
    """
    return Warmup("cosine", warmup, final)


def warmup_linear(warmup: float = 0.05, final: float = 0.0) -> Warmup:
    """Warm up in a line, then fall in a line to ``final`` at the loop's end, per update.

    >>> schedule = warmup_linear(warmup=10)
    >>> [schedule.factor(update, total=110) for update in (10, 60, 110)]
    [1.0, 0.5, 0.0]
    """
    return Warmup("linear", warmup, final)


def warmup_constant(warmup: float = 0.05) -> Warmup:
    """Warm up in a line, then stay; with an int it needs no length, so it fits ``minutes=``.

    >>> schedule = warmup_constant(warmup=3)
    >>> [schedule.factor(update, total=None) for update in (0, 1, 2, 3, 1000)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return Warmup("constant", warmup)
