"""The loop of one rank among several: what is decided by clocks, signals and wishes is decided by all."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from loopwright.errors import DataError
from loopwright.parallel import current
from loopwright.parallel.world import Totals
from loopwright.parallel.wrapping import synchronise
from loopwright.train.callsite import CallSite, user_line
from loopwright.train.limits import Limits
from loopwright.train.loop import HOST_EVERY, Loop
from loopwright.train.ranks.signals import SignalsOverRanks
from loopwright.train.ranks.source import SharedSource
from loopwright.train.ranks.stepper import StepperOverRanks
from loopwright.train.ranks.values import ValuesOverRanks, losses_of, merge_losses
from loopwright.train.step import Step

if TYPE_CHECKING:
    from loopwright.train.ranks.lifecycle import LifecycleOverRanks
    from loopwright.train.ranks.parts import OverRanks
    from loopwright.train.run import Run


PAUSE_S = 0.1
"""Seconds between two words, where turns are shorter than that."""
FARTHEST = 32
"""Turns between two words at most, and between two turns in which a wish to stop is told."""


class LoopOverRanks(Loop):
    """A loop whose ranks exchange one small vector, a *word*, at the beginning of some turns that update.

    It holds what a rank wishes: to look at the values, to stop, to end for a signal; and the samples of the
    turn, which weigh the losses, where they cannot be foreseen. It travels while the forward pass runs; what
    it says takes effect after the turn.

    A word costs as much as a small model's gradients. So it comes in each turn only where it has to
    (the sizes of batches that a loader of one's own gives), or where turns are long: the first rank says in
    each when the next one comes. What the numbers depend on goes by the count of turns alone: a wish to stop
    is told in turns that this count decides.
    """

    source: SharedSource  # type: ignore[bad-override-mutable-attribute]

    def __init__(self, run: Run, source: SharedSource, limits: Limits, name: str):
        super().__init__(run, source, limits, name)
        self.parts: OverRanks = run.parts  # type: ignore[assignment]
        self.world = self.parts.world
        self.values: ValuesOverRanks = ValuesOverRanks(self.world)  # type: ignore[assignment]
        self._stepper: StepperOverRanks = run.stepper  # type: ignore[assignment]
        self._of_turn = 0
        self._of_all: int | None = None  # samples of all ranks in this turn, where that is known
        self._surprised = False  # this rank's batch was of another size than was foreseen
        self._trusts: bool | None = None  # all have found their first batches as they were foreseen
        self._untold = [0, 0]
        self._counted = False  # this turn's samples, beforehand
        self._told: Totals | None = None
        self._look_at = 0.0
        self._wishes: list[str | None] = []
        self._may_have_wished = False
        self._ending: Step | None = None  # the turn that ends the epoch which is being closed
        self.due: str | None = None  # the first rank's word on a checkpoint at this epoch's end
        # A message goes round all ranks one after the other: 30 µs each on Ethernet. Among many it comes
        # less often, so that it costs a thousandth of the time or little more.
        self._patience = min(16.0, max(1.0, self.world.size / 16))
        self._word_at = 0
        self._began = self._turn_s = 0.0  # when the turn began, and how long the one before it took

    # -- what the ranks say ----------------------------------------------------------------------

    def _say(self) -> Totals:
        signals: Any = self.run.signals
        minutes, first, now = self.limits.minutes, self.world.is_first, perf_counter()
        self._told = self.world.begin_total(
            [
                self._of_turn, *self._untold, *signals.told,
                float(self._tells_wishes() and self.parts.wish is not None),
                float(first and now >= self._look_at),
                float(first and minutes is not None and self.elapsed() >= 60 * minutes),
                self._pause() if first else 0, float(self._surprised),
            ]
        )  # fmt: skip
        self._untold = [0, 0]
        return self._told

    def _pause(self) -> int:
        """Return in how many turns the next word is wanted."""
        return max(1, min(FARTHEST, int(PAUSE_S * self._patience / self._turn_s)))

    def _tells_wishes(self) -> bool:
        """Whether this turn is one of those in which a wish to stop is told.

        Each is at first; later each 16th part of the turns so far, so that a stop comes soon in
        proportion to what was trained.
        """
        turn = self.turn + 1
        every = max(1, min(FARTHEST, turn // 16))
        return turn // every != (turn - 1 - self._stepper.most_turns()) // every

    def _word_is_due(self) -> bool:
        return self._of_all is None or self.turn >= self._word_at or self._tells_wishes()

    def _count(self, samples: int, tokens: int) -> None:
        self._of_turn, self._of_all = 0 if self.source.padding else samples, None
        if (foreseen := self.source.foreseen) is not None:
            self._surprised = self._of_turn != foreseen[0]
            if self._trusts:
                if self._surprised:
                    raise self._surprise(foreseen[0])
                self._of_all = foreseen[1]
        limits = self.limits
        self._counted = self._of_all is not None and limits.tokens is None
        if self._counted:
            super()._count(self._of_all or 0, 0)
            if limits.minutes is not None and self._word_is_due():
                self._say()
            return
        self._untold[0] += self._of_turn
        self._untold[1] += 0 if self.source.padding else tokens
        if limits.minutes is not None or limits.samples is not None or limits.tokens is not None:
            told = self._say().wait()  # whether this turn is the last one has to be known now
            super()._count(int(told[1]), int(told[2]))
            self._counted = True

    def _surprise(self, foreseen: int) -> DataError:
        return DataError(
            f"rank {self.world.rank} got a batch of {self._of_turn} samples where its sampler named "
            f"{foreseen}, so the ranks would weigh their losses wrongly",
            slug="batch-of-another-size", where=user_line(),
            hint="DataLoader(..., collate_fn=yours): then the ranks tell each other in each turn",
        )  # fmt: skip

    def _time_is_up(self, seconds: float) -> bool:
        del seconds
        return self._told is not None and self._told.wait()[7] > 0

    def _make_step(self, sent: Any) -> Step:
        """Return the turn of a batch that was fetched; synchronised over the ranks if it updates."""
        now = perf_counter()
        self._began, self._turn_s = now, now - self._began
        step = super()._make_step(sent)
        if self.world.standing is not None:
            self.world.standing.turn = self.turn
        for module in self.run.callables.values():
            synchronise(module, wanted=step.updates)
        if step.updates and self._told is None and self._word_is_due():
            self._say()
        stepper = self._stepper
        stepper.padding = self.source.padding
        stepper.samples, stepper.told, stepper.of_all_ranks = (
            self._of_turn, self._told, self._of_all
        )  # fmt: skip
        self.values.weight = 0.0 if self.source.padding else 1.0
        current.PADDING = self.source.padding
        return step

    def _finish_turn(self, step: Step) -> None:
        self._next_visit, current.PADDING = math.inf, False
        lifecycle: LifecycleOverRanks = self.run.lifecycle  # type: ignore[assignment]
        if lifecycle.awaited:
            lifecycle.awaited = [one for one in lifecycle.awaited if not one.settle()]
        padding = self.source.padding
        if self._told is not None:
            told, self._told = self._told.wait(), None
            if not self._counted:
                super()._count(int(told[1]), int(told[2]))
            signals: SignalsOverRanks = self.run.signals  # type: ignore[assignment]
            signals.agree(told[3], told[4])
            if told[5] and self.run.stopped is None:
                self.run.stopped = self.parts.wish or "another rank asked for it"
            self._next_visit = 0.0 if told[6] else math.inf
            self._word_at = self.turn + int(told[8])
            self._trusts = not told[9] if self._trusts is None else self._trusts
        super()._finish_turn(step)
        self.skipped -= padding

    def end_epoch(self, step: Step) -> None:
        """Close an epoch; who wants to stop now, as early stopping does, stops all."""
        self._ending = step
        try:
            super().end_epoch(step)
        finally:
            self._ending = None
        told = self.world.exchange(self.parts.wish) if self._may_have_wished else self._wishes
        wishes = [wish for wish in told if wish is not None]
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
        self._look_at = perf_counter() + HOST_EVERY * self._patience
        super().visit_host()

    def flush(self) -> float | None:
        """Merge losses and values over the ranks, in one message, then bring them to the file."""
        history, moments = self.run.history, self.run.moments
        listens = moments.wanted("log") or moments.wanted("epoch_end")
        lifecycle: LifecycleOverRanks = self.run.lifecycle  # type: ignore[assignment]
        due = self._ending and lifecycle.due_after(self, self._ending)
        told, losses = self.world.exchange_with(
            [self.values.taken(), self.parts.wish, listens, due], losses_of(history)
        )
        merge_losses(history, losses)
        self.values.heard = [values for values, *_ in told]
        self._wishes = [wish for _, wish, *_ in told]
        self._may_have_wished = any(
            listens for _, _, listens, _ in told
        )  # in what comes after this
        self.due = told[0][-1]
        return super().flush()
