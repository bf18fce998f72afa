"""Family A, optimizers: several of them, and one that is built again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule, amount, grouped
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.optimizers import Entry


class CrossOptimizerGradLeak(Rule):
    """An optimizer uses gradients of a loss that was meant for another one."""

    name = "cross-optimizer-grad-leak"
    severity = "warning"
    about = "A step uses gradients left by the backward pass of another optimizer's loss."
    follows = ("missing-zero-grad",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in grouped(accounts.optimizers.entries, "leak"):
            seen = entry.tally.get("leak")
            if seen.count < 2 or seen.count < 0.5 * entry.watched:
                continue
            other = accounts.optimizers.entries[0].kind
            yield self.finding(
                seen.sites["step"],
                f"{seen.count} of {entry.watched} steps used two gradients: that of their own loss, and one that an "
                f"earlier loss had left, which another optimizer ({other}) had already used",
                why="the parameters are also pulled by a loss that was meant for others",
                fix="optimizer.zero_grad()  # just before this loss's backward()",
                count=seen.count,
                related=(
                    (seen.sites.get("other"), "leaves gradients here too"),
                    (seen.sites.get("backward"), "adds its own to them"),
                ),
            )


class MissingDetach(Rule):
    """A loss for one network also runs back through the network that made its input."""

    name = "missing-detach"
    severity = "hint"
    about = "The discriminator's backward pass runs on into the generator, for nothing."
    follows = ("cross-optimizer-grad-leak", "missing-zero-grad")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        entries = {one.order: one for one in accounts.optimizers.entries}
        for (backward, order), seen in accounts.gradients.foreign.items():
            upstream = entries.get(order)
            users = [entries[one] for one in seen.facts["consumers"] if one in entries]
            if (
                upstream is None
                or not users
                or seen.count < 3
                or accounts.gradients.consumed[backward] < 3
            ):
                continue
            if any(upstream.parameter_ids & one.parameter_ids for one in users):
                continue  # who used the gradients steps these parameters as well: an optimizer over both
            fed = accounts.modes.fed_through(backward, users[0], upstream)
            if fed is None:
                continue
            yield self.finding(
                backward,
                f"{seen.count} times this pass computed gradients for {len(upstream.parameter_ids)} parameters of "
                f"another optimizer too ({amount(upstream.bytes)}), which were cleared unused",
                why="the backward pass runs through a whole network for nothing",
                fix="fake = generator(noise).detach()  # for the discriminator's loss",
                count=seen.count,
                related=((fed, "its input still carries the other network's graph"),),
            )


class OptimizerRecreated(Rule):
    """The same optimizer is built again and again over the same parameters."""

    name = "optimizer-recreated"
    severity = "warning"
    about = "The optimizer is built again in the loop, and its momentum and averages are lost each time."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        by_site: dict[object, list[Entry]] = {}
        for entry in accounts.optimizers.entries:
            if (
                entry.site is not None
                and entry.steps
                and entry.had_state
                and not entry.loaded_state
            ):
                options = tuple(one for one in entry.options if one[0] != "lr")
                by_site.setdefault((entry.site, entry.parameter_ids, options), []).append(entry)
        for (site, _, _), entries in by_site.items():  # type: ignore[misc]
            lost = [one for one in entries[:-1] if not one.alive]
            same = len({one.options for one in entries}) == 1
            if (
                len(entries) < (3 if same else 5)  # a few stages with rates of their own are meant
                or len(lost) < 2
                or accounts.parameters.loaded_since(entries[0].made_at, entries[-1].made_at)
            ):
                continue
            yield self.finding(
                site,
                f"this {entries[0].kind} was built {len(entries)} times over the same {len(entries[0].parameter_ids)} "
                f"parameters{' with the same settings' if same else ', only with another lr'}; each time the state of {lost[0].steps} steps was lost",
                why="momentum and averages begin at zero again",
                fix="build the optimizer once, before the loop"
                if same
                else "for group in optimizer.param_groups:\n    group['lr'] = lr  # or a scheduler",
                count=len(entries),
                related=((entries[0].usual_step(), "steps here"),),
            )


RULES = (CrossOptimizerGradLeak, MissingDetach, OptimizerRecreated)
