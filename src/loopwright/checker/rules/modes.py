"""Family C, modes: train and eval, graphs where none is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule, amount
from loopwright.events import Finding
from loopwright.observe.sites import after_in_loop

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.modes import Place


def named(counts: dict[str, int], most: int = 3) -> str:
    """Like "BatchNorm1d, Dropout(p=0.5)"."""
    names = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def attribute(name: str, path: str) -> str:
    """A module's path as an expression: "model.features[0]"."""
    steps = path.split(".") if path else []
    return name + "".join(f"[{one}]" if one.isdigit() else f".{one}" for one in steps)


class EvalInTrainMode(Rule):
    """A model is measured while its dropout or batch norm acts as in training."""

    name = "eval-in-train-mode"
    severity = "error"
    about = (
        "Validation without model.eval(): dropout stays on, batch norm learns from validation data."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place in list(accounts.modes.places.values()):
            if not place.noisy_calls or not place.inherited or not place.measures():
                continue
            if not place.numbers or place.repeated_inputs > 0.5 * (place.calls - 1) > 0:
                continue
            if not self._is_evaluation(accounts, place):
                continue
            again, set_back = place.undone, ()
            if again is not None and again.undone is not None:
                set_back = (
                    (again.undone.site, "eval() is called here, and nothing runs"),
                    (again.site, "before train() is called again"),
                )
            yield self.finding(
                place.site,
                f"{place.kind} was measured in train mode {place.calls} times, after training: "
                f"{named(place.noisy)} acted as in training",
                related=set_back,
                why="dropout makes the measurement noisy and batch norm learns from the data that it is measured on",
                fix="model.eval()  # before measuring, and model.train() before training on",
                count=place.calls,
                sites={"train": self._trains(accounts, place)[0].site},
            )

    def _is_evaluation(self, accounts: Accounts, place: Place) -> bool:
        trains = self._trains(accounts, place)
        if not trains or any(p.feeds_root > 0.5 * p.calls for p in trains):
            return False  # a generator: another network reads what it makes
        between = place.steps_at_last - place.steps_at_first
        if place.blocks == 1:
            return accounts.optimizers.total_steps == place.steps_at_last
        if between / (place.blocks - 1) > 1.5:
            return True
        return any(after_in_loop(chain, accounts.modes.step_chain) for chain in place.chains[1:])

    def _trains(self, accounts: Accounts, place: Place) -> list[Place]:
        """Where the same module is trained, the busiest place first."""
        places = accounts.modes.places.values()
        found = [one for one in places if one.reached and one.root_id == place.root_id]
        return sorted(found, key=lambda one: -one.trained)


class TrainInEvalMode(Rule):
    """After an evaluation the model is trained on in eval mode."""

    name = "train-in-eval-mode"
    severity = "error"
    about = "model.eval() for a validation is never undone: the rest is trained without dropout and batch norm."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place in list(accounts.modes.places.values()):
            stamp = place.quiet_stamp
            if (
                not place.quiet_calls
                or place.trained < 2
                or stamp is None
                or stamp.first_place is None
            ):
                continue
            measured = stamp.first_place
            if measured is place or not measured.measures():
                continue
            quiet = named(place.quiet_modules)
            earlier = None if place.acted else stamp.after
            if earlier and (earlier.first_place in (None, place) or place.blocks < 4):
                continue
            yield self.finding(
                place.site,
                f"{place.kind} was trained in eval mode, which measurements before and between its steps had set, "
                f"and never in train mode: {quiet} never acted as in training"
                if earlier
                else f"{place.kind} was trained in train mode at first, and in eval mode since a validation: "
                f"{quiet} no longer acted as in training",
                severity="warning" if earlier else None,
                why="dropout is off and batch norm's statistics stand still for the rest of the training",
                fix="model.train()  # at the start of every epoch, not once before the loop",
                count=place.trained,
                related=(
                    (stamp.site, "eval() is called here"),
                    (measured.site, "for this measurement"),
                ),
                sites={"eval": stamp.site, "measured": measured.site},
            )


class FunctionalDropoutInEval(Rule):
    """F.dropout without training= goes on in eval mode."""

    name = "functional-dropout-in-eval"
    severity = "error"
    about = "F.dropout without training=self.training drops in eval mode too."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for site, seen in accounts.modes.functional.items():
            name, p = seen.facts["name"], seen.facts["p"]
            attention = name == "scaled_dot_product_attention"
            told = (
                "it does what dropout_p says, in any mode"
                if attention
                else "its training argument was left out, and is True by default"
            )
            yield self.finding(
                site,
                f"F.{name} dropped {100 * p:g} % of its "
                + ("weights" if attention else "input")
                + f" while {seen.facts['root']} was in eval mode: {told}",
                why="every evaluation and prediction is noisy",
                fix=f"F.{name}(q, k, v, dropout_p={p:g} if self.training else 0.0)" if attention
                else f"F.{name}(x, p={p:g}, training=self.training)",
                count=seen.count,
                related=((seen.sites.get("forward"), "evaluated from here"),),
            )  # fmt: skip


class FrozenBatchnormUpdating(Rule):
    """A frozen batch norm goes on collecting statistics."""

    name = "frozen-batchnorm-updating"
    severity = "warning"
    about = "Frozen layers whose batch norm is in train mode: the running statistics still move."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        frozen = accounts.modes.frozen_norms.items()
        found: dict[Place, dict[str, int]] = {}
        parts: dict[Place, dict[str, None]] = {}
        for key, (name, place, number, part) in frozen:
            untrained = (
                not place.reached
                and place.blocks >= 4
                and not place.held
                and not place.values_moved
            )
            thawed = accounts.modes.free_norms.get(key, 0) > number
            if not thawed and (place.trained >= 3 or untrained):
                counts = found.setdefault(place, {})
                counts[name] = counts.get(name, 0) + 1
                parts.setdefault(place, {})[part] = None
        for place, counts in found.items():
            many = sum(counts.values())
            yield self.finding(
                place.site,
                f"{many} batch norm{'s' if many > 1 else ''} with frozen weights ({named(counts)}) "
                f"{'were' if many > 1 else 'was'} in train mode in "
                f"{place.calls} calls of {place.kind} during the training",
                why="their running statistics still move, so the frozen part's outputs change",
                fix="\n".join(
                    attribute("model" if one else "backbone", one) + ".eval()"
                    for one in list(parts[place])[:4]
                )
                + "  # after model.train()",
                count=place.trained,
            )


class EvalWithoutNoGrad(Rule):
    """Graphs are built in an evaluation and thrown away."""

    name = "eval-without-no-grad"
    severity = "hint"
    about = "Validation builds graphs that nothing runs backward through."
    follows = ("loss-rewrapped", "missing-backward")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place in list(accounts.modes.places.values()):
            trains = any(
                p.reached and p.root_id == place.root_id for p in accounts.modes.places.values()
            )
            if (
                place.with_graph >= 2
                and not place.reached
                and not place.differentiated
                and place.wasted + place.missed >= 2
                and trains
            ):
                yield self.finding(
                    place.site,
                    f"{place.with_graph} forward passes of {place.kind} built a graph that no backward pass used"
                    + (f", of up to {amount(place.waste_bytes)}" if place.waste_bytes else ""),
                    why="each keeps all activations in memory until its output goes away",
                    fix="with torch.no_grad():",
                    count=place.with_graph,
                )


class TeacherInTrainMode(Rule):
    """A fixed network that supplies targets acts as in training."""

    name = "teacher-in-train-mode"
    severity = "warning"
    about = "A network that is never trained gives targets with dropout on or batch norm updating."
    follows = ("eval-in-train-mode", "frozen-batchnorm-updating")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for place in list(accounts.modes.places.values()):
            others = [p for p in accounts.modes.places.values() if p.root_id == place.root_id]
            trained = any(p.reached and p.last > place.first for p in others)
            if trained or not place.noisy_calls or place.blocks < 4:
                continue
            if (
                self._is_stepped(accounts, place)
                or place.values_moved
                or place.first_values is None
                or place.steps_at_last - place.steps_at_first < 4
            ):
                continue
            if place.repeated_inputs > 0.5 * place.calls:
                continue
            yield self.finding(
                place.site,
                f"{place.kind}, which is not trained here, was called {place.calls} times in train mode while others were: "
                f"{named(place.noisy)} acted as in training",
                why="its outputs are noisy, and its batch norm drifts",
                fix="teacher.eval()",
                count=place.calls,
            )

        for teacher in accounts.modes.teachers.found.values():
            if teacher.moved or teacher.until - teacher.since < 4 or teacher.noisy_calls < 3:
                continue
            yield self.finding(
                teacher.site,
                f"{teacher.kind}, which is not trained here, was in train mode in {teacher.noisy_calls} of "
                f"{teacher.calls} looked-at calls, beside a network that learns from the same input: "
                f"{named(teacher.noisy)} acted as in training",
                why="its outputs are noisy, and its batch norm drifts",
                fix="def train(self, mode=True):  # of the module around both\n    super().train(mode)\n"
                "    self.teacher.eval()\n    return self",
                count=teacher.noisy_calls,
            )

    def _is_stepped(self, accounts: Accounts, place: Place) -> bool:
        """An optimizer that holds it has stepped since it was called here first."""
        if not place.held:
            return False
        holders = [e for e in accounts.optimizers.entries if place.parameter in e.parameter_ids]
        return not holders or any(one.last_step > place.first for one in holders)


RULES = (
    EvalInTrainMode, TrainInEvalMode, FunctionalDropoutInEval, FrozenBatchnormUpdating, EvalWithoutNoGrad,
    TeacherInTrainMode,
)  # fmt: skip
