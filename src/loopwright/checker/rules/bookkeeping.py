"""Family E, bookkeeping: what is kept, schedules, checkpoints, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.graphs import Kept
    from loopwright.checker.accounts.schedules import Schedule
    from loopwright.observe.sites import Site


class LossGraphRetained(Rule):
    """Losses are added up or listed with their graphs."""

    name = "loss-graph-retained"
    severity = "warning"
    about = "total += loss, or a list of losses, keeps the graph of every batch alive."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        losses = {site: kept for site, kept in accounts.graphs.kept.items() if self._grows(kept)}
        outputs = {
            site: kept for site, kept in accounts.graphs.outputs.items() if self._grows(kept)
        }
        for site, kept in (losses or outputs).items():
            holder = kept.holder
            if not losses and holder is None:
                continue
            what = "adding them up" if holder is None or holder.kind == "sum" else "collecting them"
            yield self.finding(
                holder.position if holder is not None else site,
                f"{kept.most} {'losses' if losses else 'outputs'} of earlier steps were still alive with their graphs "
                f"after their backward pass, one more at each step: {what} keeps them",
                why="memory grows with every step, and so does the time to free it",
                fix="total += loss.item()  # or loss.detach() to stay on the device",
                count=kept.most,
                related=((site, "backward has freed nothing that is still referred to"),)
                if holder is not None
                else (),
                sites={"held": holder.position if holder is not None else None},
            )

    def _grows(self, kept: Kept) -> bool:
        """More and more graphs live on, and not only a window of the last ones."""
        return kept.most >= 8 and kept.longest_steady <= 2 * kept.most


class BestStateAliased(Rule):
    """The best state is the model itself."""

    name = "best-state-aliased"
    severity = "error"
    about = "best = model.state_dict() without a copy follows the training; loading it back does nothing."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (taken, loaded), seen in accounts.schedules.self_loads.items():
            if seen.facts["steps"] is None:
                yield self.finding(
                    loaded,
                    f"all {seen.facts['tensors']} parameters that were loaded here were the model's own memory: nothing "
                    "was restored",
                    why="detach() and, on a CPU, cpu() return the same memory, which followed the training",
                    fix="best = {name: p.detach().clone() for name, p in model.named_parameters()}",
                    count=seen.count,
                    severity="warning",
                )
                continue
            yield self.finding(
                taken,
                f"this state dict was loaded back {seen.facts['steps']} steps later, and all its {seen.facts['tensors']} "
                "parameters were the model's own memory: nothing was restored",
                why="state_dict() returns references, which followed the training",
                fix="best_state = copy.deepcopy(model.state_dict())",
                count=seen.count,
                related=((loaded, "loaded back here, to no effect"),),
            )
        for (taken, saved), seen in accounts.schedules.stale_saves.items():
            yield self.finding(
                taken,
                f"this state dict was written {seen.facts['steps']} steps after it had been taken, and its "
                f"{seen.facts['tensors']} tensors were the model's own memory: the latest weights were written",
                why="state_dict() returns references, which followed the training",
                fix="best_state = copy.deepcopy(model.state_dict())",
                count=seen.count,
                severity="warning",
                related=((saved, "written here"),),
            )


class SchedulerWrongFrequency(Rule):
    """A schedule counted in epochs is stepped at every batch, or the other way round."""

    name = "scheduler-wrong-frequency"
    severity = "warning"
    about = "An epoch schedule stepped per batch, or a batch schedule stepped per epoch."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if not accounts.complete or not accounts.ended_well:
            return
        loaders = [one for one in accounts.data.loaders.values() if one.trained]
        epochs = max((one.exhausted for one in loaders), default=0)
        per_epoch = max((one.batches_per_epoch for one in loaders), default=0)
        for schedule in accounts.schedules.schedules:
            entry, period = schedule.entry, schedule.period
            if entry is None or period is None or schedule.steps < 2 or schedule.part_of_another:
                continue
            site = max(schedule.sites, key=schedule.sites.__getitem__)
            name, length = period
            if (
                name not in ("step_size", "T_0")  # which begin again
                and entry.steps >= 8
                and schedule.steps >= 1.8 * entry.steps
                and 0.9 <= length / entry.steps <= 1.1
            ):
                yield self.finding(
                    site,
                    f"this {schedule.kind} lasts {length} steps, as many as the optimizer took, and was stepped "
                    f"{schedule.steps} times: the learning rate was between {max(schedule.rates):.3g} and "
                    f"{min(schedule.rates):.3g}, and ended at {schedule.rates[-1]:.3g}",
                    why="the schedule is over long before the training",
                    fix="scheduler.step()  # after every optimizer.step(), not after every micro-batch",
                    count=schedule.steps,
                    related=(
                        (schedule.site, f"made to last {length} steps ({name})"),
                        (entry.usual_step(), f"the optimizer stepped {entry.steps} times"),
                    ),
                    sites={"step": entry.usual_step()},
                )
                continue
            per_step = schedule.steps >= 0.9 * entry.steps
            if per_step and epochs >= 2 and per_epoch >= 2:
                yield from self._too_often(schedule, site, name, length, epochs)
            elif (
                not per_step
                and entry.steps >= 8 * schedule.steps
                and 0.9 <= length / entry.steps <= 1.1
                and name != "step_size"
            ):
                yield self.finding(
                    site,
                    f"this {schedule.kind} lasts {length} steps ({name}), as many as the optimizer took, and was stepped "
                    f"{schedule.steps} times: the learning rate went from {schedule.rates[0]:.3g} to {schedule.rates[-1]:.3g}",
                    why="the schedule ends before it has begun",
                    fix="scheduler.step()  # after every optimizer.step()",
                    count=schedule.steps,
                    related=((schedule.site, f"{name}={length}"),),
                    sites={"step": entry.usual_step()},
                )

    def _too_often(
        self, schedule: Schedule, site: Site, name: str, length: int, epochs: int
    ) -> Iterator[Finding]:
        first, low = schedule.rates[0], min(schedule.rates)
        turns = schedule.steps / length
        if (
            name in ("T_max", "total_steps", "total_iters")
            and length <= 1.5 * epochs
            and turns >= 2
        ):
            what = f"ran through its {name}={length} {turns:.0f} times"
        elif name == "step_size" and length <= 2 * epochs and low < 1e-4 * first:
            what = f"divided the learning rate every {length} batches"
        else:
            return
        yield self.finding(
            site,
            f"this {schedule.kind} was stepped {schedule.steps} times in {epochs} epochs, once per batch, and {what}: "
            f"the learning rate was between {max(schedule.rates):.3g} and {low:.3g}",
            why="a schedule counted in epochs is over within the first ones",
            fix="scheduler.step()  # once per epoch, after the batches",
            count=schedule.steps,
            related=((schedule.site, f"{name}={length}, the number of epochs is {epochs}"),),
            sites={"step": schedule.entry.usual_step() if schedule.entry is not None else None},
        )


class LrLambdaAbsolute(Rule):
    """The function given to LambdaLR returns a learning rate, and is multiplied by the learning rate."""

    name = "lr-lambda-absolute"
    severity = "error"
    about = "The function of LambdaLR returns a learning rate; it is to return a factor of it."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for schedule in accounts.schedules.schedules:
            base, rates = schedule.first_rate, schedule.rates
            if schedule.kind != "LambdaLR" or len(rates) < 4 or not 0 < base <= 0.2:
                continue
            peak, lowest = max(schedule.begins, *rates), min(schedule.begins, *rates)
            if abs(peak - base * base) > 1e-6 * base * base or lowest > 0.999 * peak:
                continue
            yield self.finding(
                schedule.site,
                f"the largest factor in {schedule.steps} steps was {peak / base:.3g}, which is the learning rate itself: it "
                f"was multiplied by it, and the optimizer never stepped with more than {peak:.3g}",
                why=f"every step is {1 / base:,.0f} times smaller than meant",
                fix="return step / warmup  # a factor between 0 and 1, not lr * step / warmup",
                count=schedule.steps,
                related=(
                    (schedule.entry.site if schedule.entry else None, f"made with lr={base:g}"),
                ),
            )


class SchedulerNeverStepped(Rule):
    """A schedule is made and never stepped."""

    name = "scheduler-never-stepped"
    severity = "warning"
    about = "A scheduler is made and never stepped: the learning rate stays as it is."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if not accounts.complete or not accounts.ended_well:
            return
        epochs = max(
            (one.epochs for one in accounts.data.loaders.values() if one.trained), default=0
        )
        for schedule in accounts.schedules.schedules:
            entry = schedule.entry
            if (
                schedule.steps
                or schedule.part_of_another
                or schedule.kind == "SWALR"
                or entry is None
            ):
                continue
            if not (entry.steps >= 20 and (epochs >= 2 or entry.steps >= 100)):
                continue
            if entry.first_step < schedule.made_at:
                continue
            yield self.finding(
                schedule.site,
                f"this {schedule.kind} was never stepped in {entry.steps} steps of its optimizer",
                why=f"the learning rate stayed at {entry.lr:g}",
                fix="scheduler.step()",
                count=entry.steps,
            )


class SchedulerBeforeOptimizer(Rule):
    """The scheduler steps at the start of every epoch."""

    name = "scheduler-before-optimizer"
    severity = "warning"
    about = "scheduler.step() before optimizer.step(): the first value of the schedule is skipped."
    follows = ("missing-step", "scheduler-wrong-optimizer")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for schedule in accounts.schedules.schedules:
            entry = schedule.entry
            if entry is None or schedule.before_first != 1 or schedule.steps < 2 or entry.steps < 2:
                continue
            if schedule.optimizer_steps and entry.steps <= schedule.optimizer_steps[-1]:
                continue  # the last step of the schedule came after the last of the optimizer
            if accounts.gradients.scaler_enabled:
                continue
            site = max(schedule.sites, key=schedule.sites.__getitem__)
            yield self.finding(
                site,
                f"this {schedule.kind} was stepped before the first step of its optimizer, and before the others "
                f"({schedule.steps} times, {entry.steps} steps)",
                why=f"the first learning rate of the schedule, {schedule.first_rate:g}, is never used",
                fix="optimizer.step()\nscheduler.step()",
                count=schedule.steps,
                related=((entry.usual_step(), "the optimizer steps after it"),),
                sites={"step": entry.usual_step()},
            )


class SchedulerWrongOptimizer(Rule):
    """A schedule changes an optimizer that never steps."""

    name = "scheduler-wrong-optimizer"
    severity = "warning"
    about = "The scheduler belongs to an optimizer that is no longer stepped."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        if not accounts.complete:
            return
        for schedule in accounts.schedules.schedules:
            entry = schedule.entry
            if entry is None or schedule.steps < 2:
                continue
            others = [
                one for one in accounts.optimizers.entries if one is not entry and one.steps >= 2
            ]
            last = schedule.optimizer_steps[-1]
            idle = sum(steps == last for steps in schedule.optimizer_steps)
            if entry.steps != last or not others:
                continue
            never = last == schedule.optimizer_steps[0]
            active = [
                one
                for one in others
                if one.last_step > max(schedule.made_at, entry.last_step)
                and one.made_at > entry.made_at
                and (never or one.parameter_ids & entry.parameter_ids)
            ]
            if not active or idle < (2 if never else 4):
                continue
            often = schedule.steps if never else idle - 1
            yield self.finding(
                max(schedule.sites, key=schedule.sites.__getitem__),
                f"this {schedule.kind} was stepped {often} times; its optimizer did not step once meanwhile, "
                f"another one made {active[0].steps} steps at lr {active[0].lr:g}",
                why="the learning rate that is used never changes",
                fix="make the scheduler from the optimizer that is stepped",
                count=often,
                related=(
                    (schedule.site, "the scheduler is made here"),
                    (active[0].site, "this optimizer is stepped"),
                ),
            )


class PlateauWrongMode(Rule):
    """ReduceLROnPlateau watches its metric the wrong way round."""

    name = "plateau-wrong-mode"
    severity = "warning"
    about = "ReduceLROnPlateau(mode='min') with an accuracy, or mode='max' with a loss."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for schedule in accounts.schedules.schedules:
            values, mode = schedule.metrics, schedule.mode
            if (
                mode not in ("min", "max")
                or len(values) < 6
                or schedule.rates[-1] >= schedule.rates[0]
            ):
                continue
            sign = 1 if mode == "min" else -1
            signed = [sign * value for value in values]
            rises = sum(b > a for a, b in pairwise(signed))
            falls = sum(b < a for a, b in pairwise(signed))
            never_better = min(signed[1:]) >= signed[0]
            if not never_better or rises < 2 * max(falls, 1):
                continue
            like_a_loss = sum(schedule.within_losses) / len(values)
            if (mode == "min") == (like_a_loss > 0.5):
                continue  # a loss that rises is lowered for, and so is an accuracy that falls
            yield self.finding(
                max(schedule.sites, key=schedule.sites.__getitem__),
                f"with mode={mode!r} the metric never got better than its first value {values[0]:.4g}: it went to "
                f"{values[-1]:.4g} over {len(values)} steps, and the learning rate fell from {schedule.rates[0]:.3g} to "
                f"{schedule.rates[-1]:.3g}",
                why="the learning rate is lowered because the metric improves",
                fix=f"ReduceLROnPlateau(optimizer, mode={'max' if mode == 'min' else 'min'!r})",
                count=len(values),
                related=((schedule.site, f"mode={mode!r}"),),
            )


class ResumeWithoutOptimizerState(Rule):
    """A program that saves the optimizer's state does not restore it."""

    name = "resume-without-optimizer-state"
    severity = "warning"
    about = "A checkpoint with an optimizer's state is loaded, and only the model is restored."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        saved = {one["path"] for one in accounts.schedules.saves if one["path"]}
        for load in accounts.schedules.loads:
            if accounts.schedules.optimizer_loads or load["path"] not in saved:
                continue
            earlier = [
                one
                for one in accounts.optimizers.entries
                if 0 < one.first_step < load["number"] and one.had_state
            ]
            # Another kind or other settings than before: a new training of these weights, not the old one.
            later = [
                new
                for new in load["fresh"]
                if new.had_state
                and (
                    not earlier
                    or any((new.kind, new.defaults) == (one.kind, one.defaults) for one in earlier)
                )
            ]
            if later:
                yield self.finding(
                    load["site"],
                    f"the checkpoint holds an optimizer's state ({load['key']!r}) that no load_state_dict took; this "
                    f"program saves it to the same file, and its {later[0].kind} began with an empty state",
                    why="momentum and averages begin at zero: the training does not go on where it stopped",
                    fix=f"optimizer.load_state_dict(checkpoint[{load['key']!r}])",
                )


class CheckpointKeysMismatch(Rule):
    """strict=False loads nothing at all."""

    name = "checkpoint-keys-mismatch"
    severity = "error"
    about = "load_state_dict(strict=False) matched no key: the model keeps its random weights."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for load in accounts.schedules.empty_loads.values():
            yield self.finding(
                load["site"],
                f"none of the {load['count']} entries fitted: the model wants {load['wanted']!r}, the state dict has "
                f"{load['given']!r}; all {load['missing']} keys are missing",
                why="strict=False passes over it in silence, and the model keeps its random weights",
                fix="state = {k.removeprefix('module.'): v for k, v in state.items()}; load_state_dict(state)",
            )


class SeedResetInLoop(Rule):
    """The generator is set to the same value again and again between steps."""

    name = "seed-reset-in-loop"
    severity = "warning"
    about = "manual_seed with the same value inside the loop: every epoch draws the same numbers."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (site, value), seen in accounts.drawn.seeds.items():
            steps = accounts.drawn.steps_at_seed.get((site, value), [])
            between = [b - a for a, b in pairwise(steps) if b > a]
            repeats = max(
                (one.same_states for one in accounts.data.loaders.values() if one.trained),
                default=0,
            )
            drawn = accounts.drawn.repeated[(site, value)]
            within = accounts.drawn.within_steps[(site, value)]
            within = within if within >= 4 and max(between, default=0) <= 2 else 0
            if value is None or len(between) < 2 or max(repeats, drawn, within) < 2:
                continue
            alike = (
                f"{repeats + 1} epochs began with the same generator state"
                if repeats >= 2
                else f"the steps after it found the same generator states {drawn + 1} times"
                if drawn >= 2
                else f"what was drawn until the next seed or step was the same in {within + 1} looked-at draws"
            )
            yield self.finding(
                site,
                f"the generator was set to {value} {seen.count} times, about every {between[0]} steps, and {alike}",
                why="every step draws the same noise and the same masks"
                if within
                else "every epoch has the same order, dropout masks and augmentation",
                fix="torch.manual_seed(seed)  # once, before the loop",
                count=seen.count,
            )


RULES = (
    LossGraphRetained, BestStateAliased, SchedulerWrongFrequency, LrLambdaAbsolute, SchedulerNeverStepped, SchedulerBeforeOptimizer,
    SchedulerWrongOptimizer, PlateauWrongMode, ResumeWithoutOptimizerState, CheckpointKeysMismatch, SeedResetInLoop,
)  # fmt: skip
