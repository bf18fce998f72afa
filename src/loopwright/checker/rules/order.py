"""Family A, the order of the step: what was cleared, used, clipped, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule, amount, grouped
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts


class MissingZeroGrad(Rule):
    """Gradients that a step has used are still there when the next backward pass adds to them."""

    name = "missing-zero-grad"
    severity = "error"
    about = (
        "Gradients are never cleared between steps, so each step repeats all the batches before."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in grouped(accounts.optimizers.entries, "stale"):
            stale, full = entry.tally.get("stale"), entry.tally.get("full").count
            if stale.count < 2 or stale.count < 0.25 * full or not stale.facts.get("held"):
                continue
            measured = entry.tally.get("measured").facts
            norms = ""
            if measured and measured["norm"] > 1.02 * measured["own norm"]:
                norms = f" (norm {measured['norm']:.3g} instead of {measured['own norm']:.3g})"
            elif measured:
                norms = (
                    f" (norm {measured['norm']:.3g}, the batch's own {measured['own norm']:.3g})"
                )
            zero = entry.usual_zero()
            yield self.finding(
                stale.sites["step"],
                f".grad of {stale.facts['held']} of {stale.facts['of']} parameters still held what earlier steps "
                f"had used when backward added to it{norms}",
                why="every step repeats the gradients of the batches before it",
                fix="optimizer.zero_grad()  # once per step, before backward",
                count=stale.count,
                related=(
                    (stale.sites.get("backward"), "backward adds to what is there"),
                    (zero, f"clears only {entry.zeroed} times in {entry.watched} steps"),
                ),
                sites={"backward": stale.sites.get("backward")},
            )


class ZeroGradAfterBackward(Rule):
    """The gradients are cleared between backward and step."""

    name = "zero-grad-after-backward"
    severity = "error"
    about = "zero_grad() stands between backward() and step(), so the step finds nothing."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in grouped(accounts.optimizers.entries, "empty: cleared"):
            empty = entry.tally.get("empty: cleared")
            if empty.count < 2 or empty.count < 0.5 * entry.watched:
                continue
            yield self.finding(
                empty.sites.get("zero") or empty.sites["step"],
                f"the gradients of {empty.facts['of']} parameters were cleared after backward had made them: "
                f"{empty.count} of {entry.watched} steps found no gradient at all",
                why="the weights never move",
                fix="optimizer.zero_grad()  # before loss.backward(), not after it",
                count=empty.count,
                related=(
                    (empty.sites.get("backward"), "backward made the gradients"),
                    (empty.sites.get("step"), "the step finds none"),
                ),
                sites={"backward": empty.sites.get("backward"), "step": empty.sites.get("step")},
            )


class StepBeforeBackward(Rule):
    """The step comes before the backward pass of the same loss."""

    name = "step-before-backward"
    severity = "error"
    about = "step() is called before backward(): it uses no gradient, or that of the batch before."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in grouped(accounts.optimizers.entries, "empty: stepped before"):
            seen = entry.tally.get("empty: stepped before")
            late = seen.sites.get("backward") or accounts.gradients.backwards
            if seen.count < 2 or seen.count < 0.5 * entry.watched - 1 or not late:
                continue
            yield self.finding(
                seen.sites["step"],
                f"{seen.count} of {entry.watched} steps came after the forward pass and before its backward, and "
                f"found no gradient in {seen.facts['of']} parameters",
                why="the weights never move",
                fix="loss.backward()\noptimizer.step()",
                count=seen.count,
                related=((seen.sites.get("backward"), "backward comes too late"),),
                sites={"backward": seen.sites.get("backward")},
            )
        for entry in grouped(accounts.optimizers.entries, "delayed"):
            seen = entry.tally.get("delayed")
            first_empty = (
                entry.tally.get("empty: stepped before").count
                + entry.tally.get("empty: no backward").count
            )
            if seen.count < 2 or not first_empty or seen.count < 0.8 * entry.watched - 1:
                continue
            yield self.finding(
                seen.sites["step"],
                f"{seen.count} of {entry.watched} steps came between the forward pass and its backward, so each used "
                "the gradient of the batch before; the first one used none",
                why="every update is one batch late, and the last batch's gradient is lost",
                fix="loss.backward()\noptimizer.step()",
                count=seen.count,
                related=((seen.sites.get("backward"), "backward comes too late"),),
                sites={"backward": seen.sites.get("backward")},
            )


class MissingStep(Rule):
    """An optimizer whose parameters get gradients is never stepped."""

    name = "missing-step"
    severity = "error"
    about = "An optimizer is made, its parameters get gradients, and it never steps."
    follows = ("best-state-aliased",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if not accounts.complete:
            return
        stepped = {
            key for one in accounts.optimizers.entries if one.steps for key in one.parameter_ids
        }
        for entry in accounts.optimizers.entries:
            if entry.steps or entry.backwards < 8 or not accounts.ended_well or entry.moved:
                continue
            if stepped & entry.parameter_ids:
                continue
            backward = max(entry.backward_sites, key=entry.backward_sites.__getitem__)
            yield self.finding(
                backward,
                f"{entry.backwards} backward passes gave gradients to the parameters of this {entry.kind}, and it "
                "never stepped",
                why="the weights never move",
                fix="optimizer.step()  # after loss.backward()",
                count=entry.backwards,
                related=(
                    (entry.site, "the optimizer is made here"),
                    (entry.usual_zero(), "and only cleared here"),
                ),
            )


class MissingBackward(Rule):
    """Steps without any backward pass."""

    name = "missing-backward"
    severity = "error"
    about = "step() is called and backward() never is."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if accounts.gradients.backwards:
            return
        for entry in grouped(accounts.optimizers.entries, "empty: no backward"):
            seen = entry.tally.get("empty: no backward")
            if (
                seen.count < 2
                or seen.count < entry.watched
                or not entry.of_torch
                or not accounts.gradients.last_forward
            ):
                continue
            yield self.finding(
                seen.sites["step"],
                f"{seen.count} steps found no gradient in {seen.facts['of']} parameters, and no backward pass was run"
                + (" (autograd.grad leaves none there)" if accounts.gradients.grads else ""),
                why="the weights never move",
                fix="loss.backward()\noptimizer.step()",
                count=seen.count,
            )


class GradientsDiscarded(Rule):
    """Gradients of most micro-batches are cleared before a step uses them."""

    name = "gradients-discarded"
    severity = "error"
    about = "Gradients are cleared before a step has used them: accumulation that keeps only the last batch."
    follows = ("zero-grad-after-backward", "step-before-backward", "missing-step")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        yield from self._never_used(accounts)
        gradients = accounts.gradients
        reported = set()
        for (backward, zero, kind, order), seen in gradients.discarded.items():
            entry = seen.facts["entry"]
            used = gradients.consumed[backward]
            thrown = (
                seen.count + gradients.discarded.get((backward, zero, "unverified", order)).count
            )
            if kind != "unused" or used < 2 or seen.count < 2 or thrown < 0.4 * used:
                continue
            if gradients.discarded.get((backward, zero, "moved", order)).count:
                continue  # the weights were moved by hand with that gradient (SAM)
            if (
                gradients.backward_sites[backward] > used + thrown + 2
                or entry.tally.get("altered by hand").count
            ):
                continue
            if accounts.parameters.graph_inputs.get(backward).count or backward in reported:
                continue
            reported.add(backward)
            total = used + thrown
            yield self.finding(
                zero,
                f"the gradients of {thrown} of {total} backward passes were cleared before a step used them",
                why=f"{100 * thrown / total:.0f} % of the data never reach the weights",
                fix="optimizer.zero_grad()  # only after optimizer.step(), not at every micro-batch",
                count=thrown,
                related=(
                    (backward, "backward made them"),
                    (entry.usual_step(), "the step uses the last batch's only"),
                ),
                sites={"step": entry.usual_step()},
            )

    def _never_used(self, accounts: Accounts) -> Iterator[Finding]:
        """All passes of a place are cleared, and some parameters get no other gradient."""
        gradients = accounts.gradients
        for (backward, zero, kind, _), seen in gradients.discarded.items():
            entry = seen.facts["entry"]
            lost = entry.thrown - entry.kept
            if (
                kind != "unused"
                or gradients.consumed[backward]
                or seen.count < 4
                or entry.tally.get("full").count < 4
                or not lost
                or not entry.kept
                or entry.tally.get("altered by hand").count
                or accounts.parameters.graph_inputs.get(backward).count
            ):
                continue
            yield self.finding(
                zero,
                f"the gradients of all {gradients.backward_sites[backward]} passes of one loss were cleared before a "
                f"step used them; {len(lost)} parameters get no others",
                why="this loss trains nothing",
                fix="(loss_a + loss_b).backward()  # or one zero_grad() for both passes",
                count=seen.count,
                related=(
                    (backward, "backward made them"),
                    (entry.usual_step(), "the step uses another loss's only"),
                ),
            )


class LossBackpropagatedTwice(Rule):
    """The same loss goes through backward twice before a step."""

    name = "loss-backpropagated-twice"
    severity = "warning"
    about = "backward() is called twice on the same loss in one step."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.gradients.twice.items():
            if seen.count >= 2:
                yield self.finding(
                    site,
                    f"{seen.count} times backward ran again on a loss that it had already run on since the last step",
                    why="its gradient counts twice",
                    fix="call backward() once per loss",
                    count=seen.count,
                )
        for site, seen in accounts.repeated.alike.items():
            values, passes = seen.facts["values"], seen.facts["passes"]
            if seen.count < 3 or len(values) < 2 or accounts.repeated.unlike.get(site).count:
                continue
            yield self.finding(
                site,
                f"in all {seen.count} looked-at steps the {passes} passes that a step adds up had the very same loss, to the "
                "last bit: one and the same batch went through the model each time",
                why=f"{passes - 1} of {passes} passes compute what is known, and the batch is no larger for them",
                fix="batch = next(batches)  # a batch of its own for each pass",
                count=seen.count,
                related=((seen.sites.get("step"), "the step uses their sum"),),
            )


class UnneededRetainGraph(Rule):
    """retain_graph=True, and the graph is never used again."""

    name = "unneeded-retain-graph"
    severity = "hint"
    about = "retain_graph=True keeps a graph that nothing uses again."
    follows = ("loss-graph-retained",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.graphs.retained.items():
            unused = seen.facts.get("unused", 0)
            if unused >= 3 and unused >= 0.9 * (seen.count - 1):
                yield self.finding(
                    site,
                    f"{unused} of {seen.count} graphs that were retained went away without being used again, about "
                    f"{amount(seen.facts.get('bytes', 0))} each",
                    why="all activations stay in memory until the next step",
                    fix="loss.backward()",
                    count=unused,
                )


RULES = (
    MissingZeroGrad, ZeroGradAfterBackward, StepBeforeBackward, MissingStep, MissingBackward, GradientsDiscarded,
    LossBackpropagatedTwice, UnneededRetainGraph,
)  # fmt: skip
