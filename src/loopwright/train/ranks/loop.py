"""The loop of one rank among several: what is decided by clocks, signals and wishes is decided by all."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from loopwright.parallel.world import Totals
from loopwright.parallel.wrapping import synchronise
from loopwright.train.callsite import CallSite
from loopwright.train.limits import Limits
from loopwright.train.loop import HOST_EVERY, Loop
from loopwright.train.ranks.signals import SignalsOverRanks
from loopwright.train.ranks.source import SharedSource
from loopwright.train.ranks.stepper import StepperOverRanks
from loopwright.train.ranks.values import ValuesOverRanks, merge_losses
from loopwright.train.step import Step

if TYPE_CHECKING:
    from loopwright.train.ranks.parts import OverRanks
    from loopwright.train.run import Run


class LoopOverRanks(Loop):
    """A loop whose ranks exchange one small vector at the beginning of each turn that updates.

    It holds the samples of the turn, which weigh the losses, and what a rank wishes: to look at the values,
    to stop, to end for a signal. It travels while the forward pass runs; what it says takes effect after the
    turn.
    """

    source: SharedSource  # type: ignore[bad-override-mutable-attribute]

    def __init__(self, run: Run, source: SharedSource, limits: Limits, name: str):
        super().__init__(run, source, limits, name)
        self.parts: OverRanks = run.parts  # type: ignore[assignment]
        self.world = self.parts.world
        self.values: ValuesOverRanks = ValuesOverRanks(self.world)  # type: ignore[assignment]
        # What ends by an amount or by the clock has to know at each turn whether it was the last.
        self._at_each_turn = any(
            x is not None for x in (limits.minutes, limits.samples, limits.tokens)
        )
        self._of_turn = 0
        self._untold = [0, 0]
        self._told: Totals | None = None
        self._look_at = 0.0

    # -- what the ranks say ----------------------------------------------------------------------

    def _say(self) -> Totals:
        signals: Any = self.run.signals
        minutes, first = self.limits.minutes, self.world.is_first
        self._told = self.world.begin_total(
            [
                self._of_turn, *self._untold, *signals.told,
                float(self.parts.wish is not None),
                float(first and perf_counter() >= self._look_at),
                float(first and minutes is not None and self.elapsed() >= 60 * minutes),
            ]
        )  # fmt: skip
        self._untold = [0, 0]
        return self._told

    def _count(self, samples: int, tokens: int) -> None:
        self._of_turn = 0 if self.source.padding else samples
        self._untold[0] += self._of_turn
        self._untold[1] += 0 if self.source.padding else tokens
        if self._at_each_turn:
            told = self._say().wait()
            super()._count(int(told[1]), int(told[2]))

    def _time_is_up(self, seconds: float) -> bool:
        del seconds
        return self._told is not None and self._told.wait()[7] > 0

    def _begin_epoch(self) -> None:
        self.source.set_epoch(self.epoch)
        super()._begin_epoch()

    def _make_step(self, sent: Any) -> Step:
        """Return the turn of a batch that was fetched; synchronised over the ranks if it updates."""
        step = super()._make_step(sent)
        if self.world.standing is not None:
            self.world.standing.turn = self.turn
        stepper: StepperOverRanks = self.run.stepper  # type: ignore[assignment]
        for module in self.run.callables.values():
            synchronise(module, wanted=step.updates)
        if step.updates and not self._at_each_turn:
            self._say()
        stepper.padding = self.source.padding
        stepper.samples, stepper.told = self._of_turn, self._told
        self.values.weight = 0.0 if self.source.padding else 1.0
        return step

    def _finish_turn(self, step: Step) -> None:
        self._next_visit = math.inf
        padding = self.source.padding
        if self._told is not None:
            told, self._told = self._told.wait(), None
            if not self._at_each_turn:
                super()._count(int(told[1]), int(told[2]))
            signals: SignalsOverRanks = self.run.signals  # type: ignore[assignment]
            signals.agree(told[3], told[4])
            if told[5] and self.run.stopped is None:
                self.run.stopped = self.parts.wish or "another rank asked for it"
            self._next_visit = 0.0 if told[6] else math.inf
        super()._finish_turn(step)
        self.skipped -= padding

    def end_epoch(self, step: Step) -> None:
        """Close an epoch; who wants to stop now, as early stopping does, stops all."""
        super().end_epoch(step)
        wishes = [wish for wish in self.world.exchange(self.parts.wish) if wish is not None]
        if wishes and self.run.stopped is None:
            self.run.stopped = self.parts.wish or wishes[0]

    # -- values ----------------------------------------------------------------------------------

    def record_loss(self, step: Step, loss: torch.Tensor, weight: Any, site: CallSite) -> bool:
        """Note the loss of a backward; whether an update is left out is decided by the gradients of all."""
        if self.source.padding:
            return True
        if self.run.nonfinite.policy == "stop":
            return super().record_loss(step, loss, weight, site)
        value: Any = loss.item() if self._on_cpu else loss.detach()
        if step._loss is None:
            step._loss, step._log_weight = value, weight
        else:
            step._loss = step._loss + value
        return True

    def visit_host(self) -> None:
        """Bring losses and values to the host, those of all ranks together."""
        self._look_at = perf_counter() + HOST_EVERY
        super().visit_host()

    def flush(self) -> float | None:
        """Merge the losses over the ranks, then bring them to the file."""
        merge_losses(self.run.history, self.world)
        return super().flush()
