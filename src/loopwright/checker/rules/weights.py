"""Family B, weights: what is written, copied, stacked and filled, and does not do what it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.checker.rules.coverage import steps_of
from loopwright.events import Finding
from loopwright.observe.sites import known_codes

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts


class LrAssignmentIgnored(Rule):
    """optimizer.lr = x sets an attribute that nobody reads."""

    name = "lr-assignment-ignored"
    severity = "warning"
    about = "optimizer.lr = x sets an attribute; the optimizer reads its param_groups."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        from loopwright.observe.storing import attribute_set_anywhere

        for entry, name, value, real in accounts.parameters.survey.ignored:
            yield self.finding(
                attribute_set_anywhere(known_codes(), name) or entry.usual_step(),
                f"{entry.kind} has an attribute {name} = {value:g}, and steps with {name} = {real:g} from its param_groups",
                why="the assignment changes nothing",
                fix=f"for group in optimizer.param_groups:\n    group[{name!r}] = {value:g}",
                related=((entry.site, "the optimizer is made here"),),
            )
        for entry in accounts.optimizers.entries:
            seen = entry.tally.get("written into a copy")
            if seen.count >= 2:
                name, value, used = (seen.facts[one] for one in ("name", "value", "used"))
                yield self.finding(
                    seen.sites["written"],
                    f"{name} = {value:g} was written into a state dict of this {entry.kind}, which is a copy; it steps "
                    f"with {name} = {used:g}",
                    why="the assignment changes nothing",
                    fix=f"for group in optimizer.param_groups:\n    group[{name!r}] = {value:g}",
                    count=seen.count,
                    related=((entry.site, "the optimizer is made here"),),
                )
            seen = entry.tally.get("written into the defaults")
            if seen.count >= 2:
                name, value, used = (seen.facts[one] for one in ("name", "value", "used"))
                yield self.finding(
                    seen.facts["at"] or entry.usual_step(),
                    f"{name} = {value:g} was written into the defaults of this {entry.kind}, which only groups that are "
                    f"added later read; it steps with {name} = {used:g}",
                    why="the assignment changes nothing",
                    fix=f"for group in optimizer.param_groups:\n    group[{name!r}] = {value:g}",
                    count=seen.count,
                    related=((entry.site, "the optimizer is made here"),),
                )


class EmaAliasesModel(Rule):
    """A second network that is meant to be a copy shares all its weights with the first."""

    name = "ema-aliases-model"
    severity = "error"
    about = "copy.copy(model) for a target network or an average: both are one set of weights."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.parameters.aliases.items():
            if seen.count < 2 or steps_of(accounts) < 2:
                continue
            yield self.finding(
                site,
                f"this copy of {seen.facts['kind']} is a shallow one: it shares every weight with the original, and was "
                f"called {seen.count} times as a network of its own",
                why="it changes with every step of the original",
                fix="target = copy.deepcopy(model)",
                count=seen.count,
                related=((seen.sites.get("called"), "called here"),),
            )
        for (site, kind), seen in accounts.schedules.own_loads.items():
            if seen.count >= 2 and steps_of(accounts) >= 2:
                yield self.finding(
                    site,
                    f"{seen.count} times this {kind} was given its own weights, as they were: what is meant to be another "
                    "network is the same object",
                    why="a copy that follows every step is no target and no average",
                    fix="target = copy.deepcopy(model)",
                    count=seen.count,
                )

        written = {
            site: seen
            for site, seen in accounts.writes.onto_itself.items()
            if seen.count == accounts.writes.all.get(site).count
            and seen.count >= 2
            and seen.facts["steps"] >= 2
        }
        if written:
            site, seen = max(written.items(), key=lambda one: one[1].count)
            yield self.finding(
                site,
                f"{seen.count} times a weight was written here with what is the same memory, over {seen.facts['steps']} "
                "steps: what is meant to be an average or a copy of it is the weight itself",
                why="a copy that follows every step is no target and no average",
                fix="shadow[name] = p.detach().clone()  # where the copies are made",
                count=seen.count,
                related=tuple((one, "and here") for one in written if one is not site),
            )


class StackedLinear(Rule):
    """Two linear layers follow each other with nothing in between."""

    name = "stacked-linear"
    severity = "hint"
    about = "No activation between two linear layers: together they are one."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (first, second), seen in accounts.parameters.fed.stacked.items():
            if seen.count >= 2:
                facts = seen.facts
                yield self.finding(
                    seen.sites.get("made") or seen.sites["forward"],
                    f"the output of {first} goes into {second} as it is: {facts['weights']:,} weights and, for the "
                    f"{facts['rows']:,} rows of a forward, {facts['work']:,} multiply-adds, where one {facts['one']} "
                    f"has {facts['weights of one']:,} and needs {facts['work of one']:,}",
                    why="the product of two matrices is one matrix: the second layer adds nothing that one could not do",
                    fix="an activation in between",
                    count=seen.count,
                )


class InputNotNormalized(Rule):
    """The network is fed with large positive numbers."""

    name = "input-not-normalized"
    severity = "hint"
    about = "Inputs between 0 and 255: the first layer starts far from where its initialisation was made for."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.parameters.fed.large_inputs.items():
            if seen.count >= 3:
                facts = seen.facts
                grads = (
                    f"; the gradient of the first layer had the norm {facts['first']:.3g}, that of all others "
                    f"{facts['others']:.3g}"
                )
                yield self.finding(
                    site,
                    f"the input was from {facts['low']:.3g} to {facts['high']:.3g}, mean {facts['mean']:.3g}, standard "
                    f"deviation {facts['spread']:.3g}{grads if facts.get('others') else ''}",
                    why="initial weights are made for inputs around 0 with spread 1",
                    fix="x = (x - mean) / std",
                    count=seen.count,
                )


class UpdateLostToPrecision(Rule):
    """Steps are taken and not one bit of the weights changes."""

    name = "update-lost-to-precision"
    severity = "error"
    about = "Low-precision weights: the update is smaller than half a unit in the last place, nothing moves."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for order, looks in accounts.parameters.moves.items():
            entry = next((one for one in accounts.optimizers.entries if one.order == order), None)
            late = [share for step, share in looks if step >= 4]
            if entry is None or len(late) < 3 or min(late) < 0.95 or not entry.lr:
                continue
            yield self.finding(
                entry.usual_step(),
                f"in {len(late)} of {len(late)} looked-at steps {100 * min(late):.1f} % or more of the sampled low-precision "
                f"weights stayed bit-identical, with gradients and lr {entry.lr:g}",
                why="the update is lost to rounding",
                fix="keep float32 weights and use torch.autocast for bfloat16",
                count=len(late),
            )


class SymmetricInit(Rule):
    """All rows of a weight are equal, before and after steps."""

    name = "symmetric-init"
    severity = "warning"
    about = "Constant initial weights: all units of a layer stay equal for ever."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for name, shape, made in accounts.parameters.survey.equal_rows[:3]:
            yield self.finding(
                made,
                f"all {shape[0]} rows of {name} are still equal after {steps_of(accounts)} steps",
                why="all units of the layer compute the same and get the same gradient",
                fix="nn.init.kaiming_uniform_(layer.weight)",
                count=steps_of(accounts),
            )
        stuck = [one for one in accounts.stuck.pairs.values() if one.looks >= 4]
        for made in dict.fromkeys(one.made for one in stuck):
            names = [one.names for one in stuck if one.made is made]
            more = f", and {len(names) - 1} more pairs" if len(names) > 1 else ""
            yield self.finding(
                made or accounts.parameters.any_root_site(),
                f"{names[0][0]} and {names[0][1]}{more} began as zeros, both: their gradients were exactly zero in all "
                f"{min(one.looks for one in stuck)} looked-at steps, and nothing has moved",
                why="the gradient of each is multiplied by the other one: neither will ever move",
                fix="nn.init.kaiming_uniform_(self.A)  # zeros for one of the two only",
                count=steps_of(accounts),
            )


RULES = (
    LrAssignmentIgnored,
    EmaAliasesModel,
    StackedLinear,
    InputNotNormalized,
    UpdateLostToPrecision,
    SymmetricInit,
)
