"""Samples that a view mixes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts


class BatchMixedByView(Rule):
    """A view puts values of several samples where one belongs."""

    name = "batch-mixed-by-view"
    severity = "error"
    about = "view or reshape where axes should be exchanged, or a recurrent layer that takes samples for time."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.mixing.mixed.items():
            if seen.count < 2 or accounts.mixing.kept.get(site).count:
                continue
            given, result, samples = (seen.facts[one] for one in ("given", "result", "samples"))
            axis = given.index(samples)
            yield self.finding(
                site,
                f"{given} was viewed as {result}, in {seen.count} looked-at calls: axis {axis}, which holds the {samples} "
                "samples, did not stay together",
                why="a view keeps the order in memory, so the output for one sample is made of parts of others",
                fix="x.transpose(0, 1)  # or permute(...): exchanges axes; view only splits and joins neighbours",
                count=seen.count,
                related=((seen.sites.get("forward"), "called from here"),),
            )
        mixing = accounts.mixing
        for key, seen in mixing.samples_as_time.items():
            if seen.count < 2 or key in mixing.along_time:
                continue
            kind, shape = seen.facts["kind"], seen.facts["shape"]
            yield self.finding(
                seen.sites["made"],
                f"this {kind} was given {shape} in {seen.count} looked-at calls, and takes the first axis for time: there "
                f"lie the {shape[0]} samples of a shuffled batch",
                why="its state goes from one sample to the next, and each step in time is a sequence of its own",
                fix=f"nn.{kind}(..., batch_first=True)",
                count=seen.count,
                related=((seen.sites.get("forward"), "called from here"),),
            )


RULES = (BatchMixedByView,)
