"""Loss weights and gradients over all ranks.

The gradient of an update is the weighted mean over every sample of every rank, as if one process had had
the joined batch. Where a window is one turn, each rank's loss is multiplied by its share of the weight
beforehand: 1 exactly where the shares are equal, and then nothing is multiplied. Where it is several, the
sums of the weights are added up over the ranks once, when it closes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loopwright.parallel.reduction import average_gradients
from loopwright.parallel.world import Totals, World
from loopwright.train.update import gradients
from loopwright.train.update.nonfinite import LeftOut
from loopwright.train.update.precision import power_of_two_near
from loopwright.train.update.stepper import Stepper
from loopwright.train.update.window import Window


class StepperOverRanks(Stepper):
    """A stepper of one rank.

    Attributes:
        world: the ranks; set once, before the first turn.
        averages: gradients are averaged when a window closes, not while backward runs (by DDP).
        replicas: groups of ranks that hold the gradients in parts; 0 where each holds them whole.
        padding: this turn counts for nothing.
        samples: of this rank in this turn.
        of_all_ranks: the same of all, where it is known; else ``told`` may hold it.
    """

    world: World
    averages = True
    replicas = 0
    padding = False
    samples = 0
    of_all_ranks: int | None = None
    told: Totals | None = None
    _counted = False
    _unit: float | None = None

    def backward(self, loss: Tensor, weight: float | Tensor, **rest: Any) -> None:
        """Run backward of the loss, weighted among the ranks."""
        self._counted = rest.get("counted", False)
        only, turn = rest.get("only"), rest["turn"]
        begun = [w for w in (self._all if only is None else (only,)) if w.last_turn != turn]
        super().backward(loss, weight * 0 if self.padding else weight, **rest)
        for window in begun:
            self._add_of_all(window)

    def _add_of_all(self, window: Window) -> None:
        """Add up what all ranks' weights come to, as long as it is known without asking."""
        if window.last_turn == self._plain_turn:
            return
        known = self._counted and self.of_all_ranks is not None
        if not known or (window.turns > 1 and window.of_all is None):
            window.of_all = None
        else:
            window.of_all = (window.of_all or 0.0) + (self.of_all_ranks or 0) / self.unit

    def _factor(self, weight: float | Tensor, *, plain: bool) -> Any:
        if plain:
            return self._share(weight)
        if self._unit is None:  # once a run: a power of two, the same on every rank
            told = self.world.exchange(float(weight))
            self._unit = float(power_of_two_near(max(told) or 1.0))
        self.unit = self._unit
        return weight / self.unit

    def _share(self, weight: float | Tensor) -> Any:
        size = self.world.size
        if isinstance(weight, Tensor):
            total = self.world.total_tensor(
                weight.double() if weight.device.type != "mps" else weight
            )
            return torch.where(total == 0, 1.0, weight * size / total)
        total = self._samples_of_all() if self._counted else None
        if total is None:
            total = self.world.total([weight])[0]
        share = weight * size / total if total else 1.0
        return None if share == 1.0 else share

    def _samples_of_all(self) -> float | None:
        if self.of_all_ranks is not None:
            return self.of_all_ranks
        return None if self.told is None else self.told.wait()[0]

    def finish(self, windows: Sequence[Window]) -> None:
        """Average over the ranks what backward has not, then unscale and normalise, once per window."""
        for window in windows:
            if window.finished:
                continue
            if self.averages:
                average_gradients(window.parameters(), self.world)
            if window.last_turn == self._plain_turn:
                window.total = None  # the losses had their shares
            elif window.total is not None:
                known = window.of_all
                window.total = (
                    self._mean(window.total) if known is None else known / self.world.size
                )
        super().finish(windows)

    def _mean(self, total: float | Tensor) -> Any:
        if isinstance(total, Tensor):
            return self.world.total_tensor(total) / self.world.size
        return self.world.total([total])[0] / self.world.size

    def _norm(self, grads: list[Tensor], alike: bool) -> Tensor:
        norm = super()._norm(grads, alike)
        if not self.replicas:
            return norm
        return (self.world.total_tensor(norm.square()) / self.replicas).sqrt()

    def _overflowed(
        self, grads: list[Tensor], windows: Sequence[Window], turn: int
    ) -> tuple[Tensor, float]:
        if not self.replicas:
            return super()._overflowed(grads, windows, turn)
        known = self._names()
        mine = [
            known.get(p, "a parameter")
            for window in windows
            for p in window.parameters()
            if p.grad is not None and not torch.isfinite(gradients.of([p])[0]).all()
        ]
        names = list(dict.fromkeys(n for told in self.world.exchange(mine) for n in told))
        if names:
            self.nonfinite.gradients(names, turn, windows[0].site)
            raise LeftOut
        exact = math.sqrt(self.world.total([gradients.exact_norm(grads) ** 2])[0] / self.replicas)
        return torch.tensor(exact, dtype=torch.float64), exact

    def for_all(self, loss: Tensor) -> Tensor:
        """Return the loss times this rank's share of the samples."""
        total = self._samples_of_all()
        share = self.samples * self.world.size / total if total else None
        return loss if share is None or share == 1.0 else loss * share

    def of_all(self, loss: Tensor, window: Window) -> Tensor:
        """Return the mean loss of all ranks: an optimizer that compares losses decides alike on each."""
        if self.averages:
            average_gradients(window.parameters(), self.world)
        return self.world.total_tensor(loss) / self.world.size
