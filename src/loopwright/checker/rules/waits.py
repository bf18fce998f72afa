"""Hints of what costs time, with the time that it cost in this run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts

ENOUGH_STEPS = 8


class ItemSyncEveryStep(Rule):
    """A number is read on the host in every step, and the host waits for it."""

    name = "item-sync-every-step"
    severity = "hint"
    about = "item(), float() or print() of a tensor in every step: the host waits for the device each time."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        waits = accounts.waits
        if waits.steps < ENOUGH_STEPS:
            return
        step = waits.seconds / waits.steps
        for site, reads in waits.reads.items():
            if reads.steps < 0.9 * waits.steps:
                continue
            often, waited = reads.times / reads.steps, reads.seconds / reads.steps
            if reads.slow < reads.steps / 2 and reads.measured < 2 * reads.steps:
                continue
            times = f"{often:.0f} times in every step" if often >= 2 else "in every step"
            yield self.finding(
                site,
                f"a number was read here {times}, and waited {1000 * waited:.3g} ms of a {1000 * step:.3g} ms step",
                why="the device has nothing to do while the host waits for its last result",
                fix="keep it as a tensor (total += loss.detach()), and read it once every 50 steps",
                count=reads.times,
            )


class DenormalOptimizerState(Rule):
    """The state of an optimizer has decayed to where the processor computes each number by microcode."""

    name = "denormal-optimizer-state"
    severity = "hint"
    about = "The optimizer's state holds numbers too small for the processor's fast path."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        waits = accounts.waits
        if waits.steps < ENOUGH_STEPS:
            return
        from loopwright import denormals  # imports torch, which the names of rules do without

        for entry in accounts.denormals.latest():
            # From one step of this optimizer to the next: with others in turns, theirs are in between.
            turns = sum(one.watched for one in accounts.optimizers.beside(entry)) / entry.watched
            step = turns * waits.seconds / waits.steps
            lost = sum(one.seconds for one in entry.slow)
            if not denormals.matters(lost, step):
                continue
            worst = max(entry.slow, key=lambda one: one.seconds)
            yield self.finding(
                entry.usual_step(),
                f"{100 * worst.share:.0f} % of the {worst.numbers:,} numbers in {entry.kind}'s {worst.name} are denormal "
                f"(below {worst.tiny:.2g}), and this machine multiplies them {worst.slower:.3g} times slower: "
                f"at least {1000 * lost:.2g} ms of a {1000 * step:.3g} ms step",
                why="where gradients stay zero their averages decay to there, and the processor has no fast path for it",
                fix="torch.set_flush_denormal(True)  # below import torch, before anything is computed",
                count=entry.steps,
            )


RULES = (ItemSyncEveryStep, DenormalOptimizerState)
