"""Family G, distributed training: what one rank can see alone; what only all together show is in ``merge``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts


class DdpBypassed(Rule):
    """The wrapped model is called past its wrapper."""

    name = "ddp-bypassed"
    severity = "error"
    about = "The forward pass goes past DistributedDataParallel, so gradients are not averaged."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for one in accounts.ranks.wrapped:
            if (
                one.forwards
                or one.backwards_without < 2
                or not one.inner_calls
                or accounts.ranks.collectives_in_training
            ):
                continue
            site = max(one.inner_calls, key=one.inner_calls.__getitem__)
            yield self.finding(
                site,
                f"the module inside DistributedDataParallel was called {one.inner_calls[site]} times and the wrapper never: "
                f"{one.backwards_without} backward passes averaged nothing",
                why="each rank trains on its own part of the data, and the ranks drift apart",
                fix="logits = ddp(x)  # not ddp.module(x)",
                count=one.backwards_without,
                related=(
                    (one.site, "wrapped here"),
                    (one.backward_site, "backward without averaging"),
                ),
            )


class DdpMissingSetEpoch(Rule):
    """A distributed sampler is iterated over with the same epoch again."""

    name = "ddp-missing-set-epoch"
    severity = "warning"
    about = "DistributedSampler.set_epoch is never called: every epoch has the same order."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            numbers = loader.epoch_numbers
            if (
                loader.distributed
                and loader.shuffles
                and loader.trained >= 2
                and len(numbers) >= 2
                and len(set(numbers)) == 1
            ):
                yield self.finding(
                    loader.sites[0],
                    f"the DistributedSampler was iterated over {len(numbers)} times with epoch {numbers[0]}",
                    why="every epoch has the same shuffled order on every rank",
                    fix="sampler.set_epoch(epoch)  # at the start of every epoch",
                    count=len(numbers),
                )


RULES = (DdpBypassed, DdpMissingSetEpoch)
