"""Family D, losses: what goes in, in what shape, through which last operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.losses import LossPlace


class LossRule(Rule):
    """A rule about what was seen at the close looks of a loss."""

    severity = "error"
    losses: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    least = 2

    def places(self, accounts: Accounts) -> Iterator[tuple[LossPlace, str, dict]]:  # type: ignore[type-arg]
        """Places where at least ``least`` looks, and nearly all of them, showed it; one a criterion."""
        told: set[object] = set()
        for place in list(accounts.losses.places.values()):
            for what in self.seen:
                if place.made is not None and (place.made, what) in told:
                    continue  # the same object, called on another line
                count = place.count(what)
                if (not self.losses or place.name in self.losses) and count >= min(self.least, place.calls) and (
                    count >= 0.8 * place.total(what) or what == "broadcast"
                ) and accounts.gradients.backwards >= 2:  # fmt: skip
                    told.add((place.made, what))
                    yield place, what, place.seen[what].facts


class DoubleSoftmax(LossRule):
    """Probabilities go into cross_entropy, which takes the softmax again."""

    name = "double-softmax"
    about = "cross_entropy gets probabilities: it applies log-softmax itself."
    losses = ("cross_entropy",)
    seen = ("probabilities",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            values = f"values from {facts['low']:.3g} to {facts['high']:.3g}, every row sums to 1"
            made = " made by softmax" if facts["made_by"].startswith("Softmax") else ""
            yield self.finding(
                place.at,
                f"cross_entropy got probabilities{made} ({values}) in {place.calls} calls, and took the softmax of them again",
                why="the loss cannot fall below a bound and gradients become very small",
                fix="give it the logits: leave the softmax out of the model",
                count=place.calls,
            )


class DoubleSigmoid(LossRule):
    """Probabilities go into binary_cross_entropy_with_logits."""

    name = "double-sigmoid"
    about = "binary_cross_entropy_with_logits gets probabilities: it applies the sigmoid itself."
    losses = ("binary_cross_entropy_with_logits",)
    seen = ("sigmoid", "inside")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, what, facts in self.places(accounts):
            if what == "inside" and place.count("inside") < 3:
                continue
            yield self.finding(
                place.at,
                f"binary_cross_entropy_with_logits got values from {facts['low']:.3g} to {facts['high']:.3g}"
                + (" made by a sigmoid" if what == "sigmoid" else "")
                + f" in {place.calls} calls, and took the sigmoid of them again",
                why="the prediction can never leave 0.5 to 0.73",
                fix="give it the logits, or use binary_cross_entropy",
                count=place.calls,
                sites={"made": place.made},
                severity="error" if what == "sigmoid" else "warning",
            )


class NllInputNotLogProbs(LossRule):
    """nll_loss gets probabilities or logits."""

    name = "nll-input-not-log-probs"
    about = "nll_loss gets probabilities or logits instead of log-probabilities."
    losses = ("nll_loss",)
    seen = ("probabilities", "logits")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, what, facts in self.places(accounts):
            told = (
                f"probabilities (from {facts['low']:.3g} to {facts['high']:.3g}, every row sums to 1)"
                if what == "probabilities"
                else f"values up to {facts['high']:.3g}, where log-probabilities are at most 0"
            )
            yield self.finding(
                place.at,
                f"nll_loss got {told} in {place.calls} calls",
                why="the loss is the negative of what it is given, and has no lower bound" if what == "logits"
                else "the gradient vanishes for what is predicted worst",
                fix="F.log_softmax(logits, dim=1) before nll_loss, or cross_entropy on the logits",
                count=place.calls,
            )  # fmt: skip


class KlDivWrongInput(LossRule):
    """kl_div gets probabilities where it wants their logarithm."""

    name = "kl-div-wrong-input"
    about = "kl_div wants log-probabilities first and probabilities second."
    losses = ("kl_div",)
    seen = ("probabilities", "log target")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, what, facts in self.places(accounts):
            argument = "input" if what == "probabilities" else "target"
            wants = (
                "log-probabilities"
                if what == "probabilities"
                else "probabilities (log_target=False)"
            )
            yield self.finding(
                place.at,
                f"the {argument} of kl_div was from {facts['low']:.3g} to {facts['high']:.3g} in {place.calls} calls, "
                f"where it wants {wants}",
                why="the value is not a divergence, and its minimum is elsewhere",
                fix="F.kl_div(F.log_softmax(logits, -1), target_probabilities, reduction='batchmean')",
                count=place.calls,
            )


class SoftmaxWrongDim(LossRule):
    """The softmax was taken over the batch."""

    name = "softmax-wrong-dim"
    about = "softmax or log_softmax over the batch dimension."
    seen = ("columns",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            yield self.finding(
                place.at,
                f"what {place.name} got was normalised over the batch: in a batch of shape {facts['shape']} the columns "
                "sum to 1, the rows do not",
                why="the samples of a batch compete with each other instead of the classes",
                fix="softmax(x, dim=1)  # or dim=-1; none at all before cross_entropy",
                count=place.calls,
            )
        for site, picked in accounts.picks.columns.items():
            if picked.count >= 2:
                yield self.finding(
                    site,
                    f"one value a row is taken out of probabilities of shape {picked.facts['shape']} whose columns sum "
                    "to 1: they were normalised over the batch",
                    why="the samples of a batch compete with each other instead of the choices",
                    fix="softmax(x, dim=-1)",
                    count=picked.count,
                    related=((picked.sites.get("backward"), "the loss that is made of them"),),
                )


class LossBroadcast(LossRule):
    """Prediction and target have different shapes and are spread against each other."""

    name = "loss-broadcast"
    about = "[N, 1] against [N] becomes [N, N]: every prediction is compared with every target."
    seen = ("broadcast",)
    least = 1

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            yield self._one(
                place.at,
                facts["input"],
                facts["target"],
                facts["joint"],
                place.count("broadcast"),
            )
        for seen in accounts.graphs.broadcast.values():
            facts = seen.facts
            n = facts["joint"][0]
            other = (n,) if facts["given"] == (n, 1) else (n, 1)
            at = facts.get("position") or seen.sites["backward"]
            if facts["weights"] is None:
                yield self._one(at, facts["given"], other, facts["joint"], seen.count)
                continue
            yield self.finding(
                at,
                f"losses of shape {facts['given']} and weights of shape {other} were spread to {facts['joint']}",
                why="every loss meets every weight, so all are weighed with the mean of the weights",
                fix="weights.squeeze(1) * losses, or weights * losses.unsqueeze(1): equal shapes",
                count=seen.count,
            )

    def _one(
        self, at: object, prediction: object, target: object, joint: object, count: int
    ) -> Finding:
        return self.finding(
            at,  # type: ignore[arg-type]
            f"the prediction of shape {prediction} and the target of shape {target} were spread to {joint}",
            why="every prediction is compared with every target, so the model learns their mean",
            fix="target.unsqueeze(1), or prediction.squeeze(1): equal shapes",
            count=count,
        )


class CeSingleLogit(LossRule):
    """cross_entropy over one class is always 0."""

    name = "ce-single-logit"
    about = "cross_entropy over a single class: the loss is 0 whatever the model says."
    losses = ("cross_entropy",)
    seen = ("one class",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            yield self.finding(
                place.at,
                f"cross_entropy got {facts['input']}: one class, so the loss was 0 in all {place.calls} calls",
                why="there is no gradient and nothing is learnt",
                fix="F.binary_cross_entropy_with_logits(logits.squeeze(1), target.float()), or two outputs",
                count=place.calls,
            )


class LabelsNotShifted(LossRule):
    """A language model is trained to repeat its input."""

    name = "labels-not-shifted"
    about = "The targets of a language model equal its inputs: it learns to copy."
    losses = ("cross_entropy",)
    seen = ("target is input",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            causal = facts["causal"] or accounts.parameters.recurrent == {False}
            if facts["embeddings"] != 1 or not causal:
                continue
            yield self.finding(
                place.at,
                f"the targets of shape {facts['shape']} equal the tokens that went into the embedding, element by element",
                why="each position is asked for the token that it is given: nothing is predicted",
                fix="cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())",
                count=place.calls,
            )


class FutureLeak(LossRule):
    """A language model sees the tokens that it is to predict."""

    name = "future-leak"
    about = "The next token is predicted by a model that has seen it: attention, taps or a pass backwards in time."
    losses = ("cross_entropy",)
    seen = ("future", "future taps", "next token")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, what, facts in self.places(accounts):
            at, length = place.at, facts["length"]
            if what == "future":
                how = f"attention over {length} positions looks at later ones (weight {facts['weight']:.3g})"
                fix = "F.scaled_dot_product_attention(q, k, v, is_causal=True)"
            elif what == "future taps":
                at = facts["made"] or at
                how = f"convolutions over {length} positions reach {facts['steps']} ahead of each"
                fix = "F.pad(x, ((kernel_size - 1) * dilation, 0))  # on the left alone, and padding=0"
            elif facts["embeddings"] == 1 and accounts.parameters.recurrent == {True}:
                how = f"every recurrent layer reads the {length} positions from both ends"
                fix = "bidirectional=False"
            else:
                continue
            yield self.finding(
                at,
                f"the targets are the next tokens, and {how}",
                why="the model reads the answer, and knows nothing when it has to generate",
                fix=fix,
                count=place.calls,
                related=((place.at, "the loss"),) if at is not place.at else (),
            )


class PaddingInLoss(LossRule):
    """Padding tokens are counted in the loss."""

    name = "padding-in-loss"
    severity = "warning"
    about = (
        "Padding positions are counted in the loss: ignore_index does not name the padding token."
    )
    losses = ("cross_entropy",)
    seen = ("padding counted",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            yield self.finding(
                place.at,
                f"{100 * facts['share']:.0f} % of the targets are padding (token {facts['padding']}), and ignore_index is "
                f"{facts['ignore']}",
                why="the model is rewarded for predicting padding, and the mean loss is too low",
                fix=f"nn.CrossEntropyLoss(ignore_index={facts['padding']})",
                count=place.calls,
            )


class LastStepIsPadding(Rule):
    """The state after padding is taken for the state of the sequence."""

    name = "last-step-is-padding"
    severity = "warning"
    about = (
        "out[:, -1] of sequences that are padded at the end: for all but the longest it is padding."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.picks.padded.items():
            if seen.count < 2 or seen.count < 0.5 * accounts.picks.unpadded.get(site).count:
                continue
            yield self.finding(
                site,
                f"this loss is made of the last position of each row, [:, -1], and {100 * seen.facts['share']:.0f} % of the "
                "rows that the embedding was given end in padding",
                why="for these rows it says what came out after the padding, not at the end of the sequence",
                fix="out[torch.arange(len(out)), lengths - 1]  # or pack_padded_sequence, and h_n",
                count=seen.count,
            )


class TargetRequiresGrad(LossRule):
    """A bootstrapped target carries a graph."""

    name = "target-requires-grad"
    severity = "warning"
    about = "A target computed from a network (reward + gamma * value) still carries its graph."
    seen = ("bootstrapped target",)

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place, _, facts in self.places(accounts):
            another = place.seen.get("another's target")
            trained = another is None or any(
                another.facts["leaves"] & one.parameter_ids for one in accounts.optimizers.entries
            )
            if not trained:
                yield self.finding(
                    place.at,
                    f"the target of {place.name}, of shape {facts['target']}, carries the graph of a network that no "
                    "optimizer holds",
                    why="its gradients are computed, piled up, and never used",
                    fix="with torch.no_grad():  # around the computation of the target",
                    count=place.calls,
                    severity="hint",
                )
                continue
            yield self.finding(
                place.at,
                f"the target of {place.name}, of shape {facts['target']}, carries a graph: it was computed from a network "
                "and not detached",
                why="the gradient also moves the target towards the prediction",
                fix="with torch.no_grad():  # around the computation of the target",
                count=place.calls,
            )
        for place in accounts.losses.places.values():
            seen = place.seen.get("another's target")
            if seen is None or seen.count < 3:
                continue
            leaves, since = seen.facts["leaves"], seen.facts["since"]
            owners = [one for one in accounts.optimizers.entries if leaves & one.parameter_ids]
            stepped = accounts.optimizers.total_steps > 3 and not any(
                one.last_step > since for one in owners
            )
            if stepped and not accounts.parameters.loaded_since(since):
                yield self.finding(
                    place.at,
                    f"the target of {place.name}, of shape {seen.facts['target']}, carries the graph of another network, "
                    "whose parameters no optimizer steps",
                    why="its gradients are computed, piled up, and never used",
                    fix="with torch.no_grad():  # around the computation of the target",
                    count=place.calls,
                )
        for (_, place), seen in accounts.losses.targets.of_part.items():
            if seen.count >= 2 and accounts.optimizers.total_steps > 3:
                yield self.finding(
                    place.at,
                    f"every term of the loss ({seen.facts['terms']}) compares what the network predicts with what an earlier "
                    f"part of it computes, of shape {seen.facts['target']}, and that carries its graph",
                    why="the loss is zero when that part gives one value for everything, and the gradient goes there",
                    fix=f"F.{place.name}(prediction, target.detach())",
                    count=place.calls,
                    related=((seen.sites.get("backward"), "the loss that is made of them"),),
                )


class LossClamped(Rule):
    """The loss is clamped, and its gradient is zero where it matters."""

    name = "loss-clamped"
    severity = "warning"
    about = "The loss is cut off at a maximum: there its gradient is zero."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.graphs.clamped.items():
            yield self.finding(
                site,
                f"the loss was {seen.facts['value']:.3g} and was clamped to {seen.facts['max']:.3g} "
                f"in {seen.count} looked-at steps",
                why="its gradient is zero exactly for the worst batches",
                fix="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # limit the gradients, not the loss",
                count=seen.count,
            )


class LossNotFinite(Rule):
    """Training goes on with a loss that is nan or inf."""

    name = "loss-not-finite"
    severity = "error"
    about = "The loss is nan or inf, and training goes on."
    follows = (
        "missing-zero-grad", "double-softmax", "nll-input-not-log-probs", "kl-div-wrong-input", "softmax-wrong-dim",
        "clip-misplaced", "scaler-bypassed",
    )  # fmt: skip

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if accounts.gradients.scaler_enabled:
            return  # the scaler skips such steps
        for site, seen in accounts.graphs.nonfinite.items():
            stepped = [
                one
                for one in accounts.optimizers.entries
                if site in one.backward_sites and one.steps
            ]
            if stepped and seen.count >= 2:
                yield self.finding(
                    site,
                    f"the loss was {seen.facts['value']} in {seen.count} looked-at steps, and the optimizer stepped on",
                    why="every weight that gets its gradient becomes nan",
                    fix="look for log(0), 0/0, or a learning rate that is too high",
                    count=seen.count,
                )


RULES = (
    DoubleSoftmax, DoubleSigmoid, NllInputNotLogProbs, KlDivWrongInput, SoftmaxWrongDim, LossBroadcast,
    CeSingleLogit, LabelsNotShifted, FutureLeak, PaddingInLoss, LastStepIsPadding, TargetRequiresGrad, LossClamped, LossNotFinite,
)  # fmt: skip
