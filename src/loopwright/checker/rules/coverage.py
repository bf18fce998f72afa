"""Family B, graph and parameter coverage: what trains, what is meant to, what an optimizer holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule, amount, place
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.coverage import Fact, Held
    from loopwright.observe.sites import Site

ENOUGH_STEPS = 3


def listed(facts: list[Fact], most: int = 3) -> str:
    """Like "hidden[0].weight, hidden[0].bias and 4 more"."""
    names = [fact.name for fact in facts]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def elements(facts: list[Fact]) -> str:
    """Like "2,112 weights"."""
    return f"{sum(fact.elements for fact in facts):,} weights"


def by_place(facts: list[Fact]) -> dict[object, list[Fact]]:
    """Facts by the place where their modules were made."""
    found: dict[object, list[Fact]] = {}
    for fact in facts:
        found.setdefault(fact.made, []).append(fact)
    return found


def steps_of(accounts: Accounts) -> int:
    """Optimizer steps so far."""
    return accounts.optimizers.total_steps


class LossRewrapped(Rule):
    """backward() runs on a loss that was cut off from the model."""

    name = "loss-rewrapped"
    severity = "error"
    about = "The loss was rebuilt as a new tensor, so backward() reaches no parameter."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if not accounts.gradients.last_forward:
            return
        for tally, what in (
            (accounts.parameters.leaf_roots, "is a new leaf tensor with no graph behind it"),
            (
                accounts.parameters.no_leaves,
                "has a graph that reaches no parameter of any optimizer",
            ),
        ):
            for site, seen in tally.items():
                stepped = [one for one in accounts.optimizers.entries if one.steps >= 2]
                empty = [
                    one for one in stepped if not one.tally.get("full").count and not one.backwards
                ]
                inputs = accounts.parameters.graph_inputs.get(site).count
                if seen.count < 2 or not empty or len(empty) < len(stepped):
                    continue
                if tally is accounts.parameters.no_leaves and (
                    accounts.parameters.survey.orphans or not inputs
                ):
                    continue
                yield self.finding(
                    site,
                    f"the tensor that backward ran on {what}: none of the "
                    f"{sum(one.tally.get('empty: no gradient').facts.get('of', 0) for one in empty)} parameters got a gradient",
                    why="the weights never move",
                    fix="call backward() on the loss as the criterion returned it",
                    count=max(one.steps for one in empty),
                    related=((empty[0].usual_step(), "the step finds no gradient"),),
                )
                return


class DetachedInForward(Rule):
    """A part of the model is cut out of the graph inside forward."""

    name = "detached-in-forward"
    severity = "error"
    about = "detach(), .data, numpy or no_grad inside forward cuts part of the model from its gradients."
    follows = ("loss-rewrapped", "zero-grad-after-backward")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for order, held in accounts.parameters.held.items():
            del order
            reached = accounts.parameters.reached
            never = [f for f in held.unreached if f.fresh and not reached.get(f.key)]
            yield from self._left_out([f for f in never if not f.cut], held)
            yield from self._never_added([f for f in never if not f.cut], held, accounts)
            cut = [f for f in never if f.cut]
            cuts = accounts.parameters.cuts
            if not cut or not cuts or not held.reached or held.entry.steps < ENOUGH_STEPS:
                continue
            seen = max((seen for _, seen in cuts.items()), key=lambda one: one.count)
            if seen.count < 2:
                continue
            yield self.finding(
                seen.facts.get("at") or seen.sites["forward"],
                f"{len(cut)} of {held.total} parameters of this model ({listed(cut)}: {elements(cut)}) never got a "
                "gradient: what their modules returned was cut from the graph before the loss",
                why="they keep their random first values",
                fix="pass the module's output on as it is: no detach(), .data, numpy() or no_grad() in between",
                count=seen.count,
                related=(
                    (cut[-1].made, "made here, never trained"),
                    (seen.sites["forward"], "the forward pass"),
                ),
            )

    def _never_added(self, facts: list[Fact], held: Held, accounts: Accounts) -> Iterator[Finding]:
        """A loss was computed of what these parameters make, and no backward pass ran through it."""
        if (
            not accounts.complete
            or not accounts.ended_well
            or held.entry.steps < 8
            or not held.reached
        ):
            return
        for loss in accounts.losses.places.values():
            alone = [one for one in facts if one.key in loss.alone]
            if alone and not loss.used and loss.alone_looks >= 2 and loss.calls >= 8:
                yield self.finding(
                    loss.at,
                    f"{loss.name} was computed here {loss.calls} times with a graph that no backward pass ran through: "
                    f"{len(alone)} of {held.total} parameters of this model ({listed(alone)}: {elements(alone)}) never got "
                    "a gradient",
                    why="they keep their random first values",
                    fix="add the loss itself to the sum, not loss.item() or loss.detach()",
                    count=loss.calls,
                    related=((alone[0].made, "made here, never trained"),),
                )

    def _left_out(self, facts: list[Fact], held: Held) -> Iterator[Finding]:
        """Modules that ran with gradients, and what they returned went on without: a router under no_grad."""
        by_call: dict[Site, list[Fact]] = {}
        for one in facts:
            if one.left_out is not None and held.reached and held.entry.steps >= ENOUGH_STEPS:
                by_call.setdefault(one.left_out[0], []).append(one)
        for site, cut in by_call.items():
            places = cut[0].left_out[1] if cut[0].left_out is not None else []
            yield self.finding(
                site,
                f"{len(cut)} of {held.total} parameters of this model ({listed(cut)}: {elements(cut)}) never got a "
                "gradient: what was returned here with a graph is used further down without it",
                why="they keep their random first values",
                fix="take out of the graph only what is not to be trained, the choice of an expert say, not its weight",
                count=held.entry.steps,
                related=tuple((one, "used without its graph") for one in places[-3:]),
            )


class UnregisteredModules(Rule):
    """Layers hang in a plain list or dict, where parameters() does not see them."""

    name = "unregistered-modules"
    severity = "error"
    about = "Layers in a Python list or dict: parameters() does not see them, so they are never trained."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        orphans = [
            f
            for f in accounts.parameters.survey.orphans
            if f.held and f.made is not None and f.fresh
        ]
        if steps_of(accounts) < ENOUGH_STEPS:
            return
        by_line: dict[object, list[Fact]] = {}
        for one in orphans:
            at = place(one.around or one.made)
            by_line.setdefault((at.file, at.line), []).append(one)
        for facts in by_line.values():
            container = facts[0].held.partition("[")[0]
            yield self.finding(
                facts[0].around or facts[0].made,
                f"{len(facts)} parameters ({listed(facts)}: {elements(facts)}) get gradients and are in no optimizer: "
                f"they hang in a plain container ({container}), which parameters() does not look into",
                why="they keep their random first values, and are not saved or moved with the model",
                fix=f"self.{container.rpartition('.')[2]} = nn.ModuleList([...])  # or nn.ModuleDict",
                count=steps_of(accounts),
            )


class UnregisteredParameter(Rule):
    """A tensor that requires grad is an attribute of a module, but no Parameter of it."""

    name = "unregistered-parameter"
    severity = "error"
    about = "A tensor with requires_grad, or a Parameter times something, as an attribute: never trained."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if steps_of(accounts) < (ENOUGH_STEPS if accounts.ended_well else 1):
            return
        for fact in accounts.parameters.survey.orphans:
            if not fact.held or fact.made is not None or fact.walks < 2:
                continue
            what = (
                "is a plain tensor, not an nn.Parameter"
                if fact.leaf
                else "was computed from a Parameter, so it is no leaf"
            )
            yield self.finding(
                fact.stored or accounts.parameters.any_root_site(),
                f"{fact.held} of shape {fact.shape} gets gradients and is in no optimizer: it {what}",
                why="it keeps its first values, and is not saved with the model",
                fix=f"self.{fact.held.rpartition('.')[2]} = nn.Parameter(...)  # the finished value inside",
                count=steps_of(accounts),
            )


class ParamsNotInOptimizer(Rule):
    """Parameters that get gradients are in no optimizer."""

    name = "params-not-in-optimizer"
    severity = "error"
    about = "Trainable parameters get gradients at every backward, and no optimizer holds them."
    follows = ("stale-optimizer-params", "optimizer-has-frozen-params", "module-created-in-forward")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if steps_of(accounts) < ENOUGH_STEPS:
            return
        orphans = [f for f in accounts.parameters.survey.orphans if f.registered and f.is_parameter]
        random = [f for f in orphans if f.fresh and not f.stepped]
        places = by_place(random)
        optimizer = accounts.optimizers.main_site()
        if optimizer is not None and random:
            places = {optimizer: random}
        for at, facts in places.items():
            made = [(one, "made here, never trained") for one in by_place(facts) if one is not None]
            yield self.finding(
                at,  # type: ignore[arg-type]
                f"{len(facts)} parameters ({listed(facts)}: {elements(facts)}) get gradients and are in no optimizer",
                why="they keep their random first values",
                fix="torch.optim.Adam(model.parameters())  # all of them, or requires_grad_(False) on purpose",
                count=steps_of(accounts),
                related=tuple(made[:3]) if at is optimizer else (),  # type: ignore[arg-type]
            )
        given = [f for f in orphans if not f.fresh or f.stepped]
        if given:
            yield self.finding(
                accounts.optimizers.main_site(),
                f"{len(given)} parameters ({listed(given)}: {elements(given)}) get gradients that no optimizer uses",
                why="their gradients are computed and kept for nothing",
                fix="for p in backbone.parameters(): p.requires_grad_(False)",
                count=steps_of(accounts),
                severity="hint",
            )


class StaleOptimizerParams(Rule):
    """The optimizer holds parameters that were replaced after it was made."""

    name = "stale-optimizer-params"
    severity = "error"
    about = "The optimizer was made before the model, or a layer of it, was replaced: it holds the old one."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        untrained = accounts.parameters.untrained.values()
        orphans = [f for f in untrained if f.is_parameter and f.made is not None]
        for held in accounts.parameters.held.values():
            entry = held.entry
            stale = [one for one in held.unreached if not one.registered] + held.replaced
            if entry.steps < ENOUGH_STEPS or not stale or not orphans or entry.site is None:
                continue
            new = [f for f in orphans if f.made_at > entry.made_at] or (
                orphans if not held.reached else []
            )
            stale_dims, new_dims = {len(f.shape) for f in stale}, {len(f.shape) for f in new}
            if not new or not stale_dims & new_dims:
                continue
            made = (new[0].made, "the new ones are made here")
            old = (entry.site, "the optimizer is made here, with the old parameters")
            # What was made in a function of its own is right there; the optimizer stands in the wrong place.
            at, other = (made, old) if made[0] and made[0].code is entry.site.code else (old, made)
            yield self.finding(
                at[0],
                f"{len(new)} parameters ({listed(new)}) were made after the optimizer, get gradients, and are in no "
                f"optimizer; {len(stale)} of the {held.total} parameters that it holds take part in no loss any more",
                why="the new parameters keep their random first values",
                fix="make the optimizer after the model is complete",
                count=entry.steps,
                related=(other,),
            )
            return


class OptimizerHasFrozenParams(Rule):
    """Everything that an optimizer holds is frozen."""

    name = "optimizer-has-frozen-params"
    severity = "warning"
    about = "All parameters that an optimizer holds have requires_grad=False."
    follows = ("stale-optimizer-params",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in accounts.optimizers.entries:
            if entry.watched >= 2 and entry.frozen_steps == entry.watched:
                yield self.finding(
                    entry.site or entry.usual_step(),
                    f"all {entry.frozen_count} parameters of this {entry.kind} were frozen (requires_grad=False) in all "
                    f"its {entry.steps} steps",
                    why="nothing is trained by it",
                    fix="give it the parameters that are to be trained",
                    count=entry.steps,
                    related=((entry.usual_step(), "steps here"),),
                )
                continue
            if entry.frozen_alone >= max(8, 0.25 * entry.watched):
                yield self.finding(
                    entry.usual_step(),
                    f"all {entry.frozen_count} parameters of this {entry.kind} have been frozen (requires_grad=False) in "
                    f"its last {entry.frozen_alone} of {entry.steps} steps, each after a backward pass that no other "
                    "optimizer used",
                    why="this loss trains nothing any more",
                    fix="network.requires_grad_(True)  # before its own loss, where it was frozen for another",
                    count=entry.frozen_alone,
                    related=((entry.site, "the optimizer is made here"),),
                )
                continue
            for number, size in sorted(entry.frozen_groups.items()):
                if entry.watched >= 2:
                    yield self.finding(
                        entry.site or entry.usual_step(),
                        f"all {size} parameters of group {number} of this {entry.kind} were frozen "
                        f"(requires_grad=False) in all its {entry.steps} steps",
                        why="the group has a learning rate of its own, and nothing is trained with it",
                        fix="module.requires_grad_(True)  # the method: an attribute of a Module does nothing",
                        count=entry.steps,
                        related=((entry.usual_step(), "steps here"),),
                    )
                    break


class UnusedParameters(Rule):
    """A layer is in the optimizer and never called."""

    name = "unused-parameters"
    severity = "warning"
    about = "A layer was made, is in the optimizer, and forward never calls it."
    follows = (
        "stale-optimizer-params",
        "unregistered-modules",
        "loss-rewrapped",
        "module-created-in-forward",
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for held in accounts.parameters.held.values():
            later = accounts.parameters.reached
            unused = [
                f
                for f in held.unreached
                if f.fresh and f.registered and not f.called and not later.get(f.key)
            ]
            if held.entry.steps < 8 or not held.reached or not unused:
                continue
            units: dict[object, list[Fact]] = {}
            for one in unused:
                units.setdefault(one.unit or one.made, []).append(one)
            for made, facts in units.items():
                instead = facts[0].instead
                told = (
                    "was never called"
                    if instead is None
                    else "was never called, and one of its like twice"
                )
                yield self.finding(
                    instead or made,  # type: ignore[arg-type]
                    f"{len(facts)} parameters ({listed(facts)}: {elements(facts)}) are in the optimizer and took part "
                    f"in no loss in {held.entry.steps} steps: their module {told}",
                    why="the layer was meant to be used, or should not be there",
                    fix="call it in forward, or remove it",
                    count=held.entry.steps,
                    related=((made, "made here, never called"),) if instead is not None else (),  # type: ignore[arg-type]
                )


class ModuleCreatedInForward(Rule):
    """A layer with weights is made anew in every forward."""

    name = "module-created-in-forward"
    severity = "error"
    about = "A layer is built inside forward: new random weights every time, never trained."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (site, kind), seen in accounts.parameters.born_in_forward.items():
            dropout = "Dropout" in kind
            if seen.count < 3 or not (seen.facts.get("parameters") or dropout):
                continue
            count = seen.facts.get("parameters", 0)
            yield self.finding(
                site,
                f"a new {kind}" + (f" with {count:,} weights" if count else "") + " was made and called inside forward "
                f"in each of {seen.count} recorded calls",
                why="it is always in train mode, eval() does not reach it" if dropout
                else "its weights are random in every step and never trained",
                fix="make it in __init__, call it in forward",
                count=seen.count,
                severity="warning" if dropout else None,
                related=((seen.sites.get("forward"), "called from here"),),
            )  # fmt: skip


class AccidentalWeightSharing(Rule):
    """One layer stands several times in a container."""

    name = "accidental-weight-sharing"
    severity = "hint"
    about = (
        "[layer] * n puts the same layer n times into a container: all share one set of weights."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for one in accounts.parameters.survey.shared:
            called = f"; a forward called it {one.calls} times" if one.calls else ""
            yield self.finding(
                one.made or accounts.parameters.any_root_site(),
                f"{one.path} holds the same {one.kind} {one.times} times: {one.weights:,} weights ({amount(one.bytes)}) "
                f"for all {one.times} places, where {one.times} layers have {one.times * one.weights:,}{called}",
                why="the model has fewer parameters than it seems",
                fix=f"nn.Sequential(*[make_layer() for _ in range({one.times})])",
                count=one.times,
            )


RULES = (
    LossRewrapped, DetachedInForward, UnregisteredModules, UnregisteredParameter, ParamsNotInOptimizer,
    StaleOptimizerParams, OptimizerHasFrozenParams, UnusedParameters, ModuleCreatedInForward,
    AccidentalWeightSharing,
)  # fmt: skip
