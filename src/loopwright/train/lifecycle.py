"""A loop's beginning, its checkpoints, and its end, whichever way it comes."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from loopwright.errors import UsageError
from loopwright.events import EpochRow, Outcome
from loopwright.train.callsite import user_line
from loopwright.train.data.bulk import in_memory
from loopwright.train.data.feed import warn_unknown_iterators
from loopwright.train.data.fingerprint import (
    comparable,
    describe,
    likely_cause,
    warn_of_other_workers,
)
from loopwright.train.display import telling, waiting
from loopwright.train.display.progress import Progress
from loopwright.train.process import allocator, randomness
from loopwright.train.state import identity, saving
from loopwright.train.state.policy import allows
from loopwright.train.state.rates import whose

if TYPE_CHECKING:
    from loopwright.train.data.source import Source
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run
    from loopwright.train.step import Step


PHASES = ("fetch", "transfer", "forward", "backward", "step", "item", "evaluate")
COUNTED = ("turn", "updates", "samples", "tokens", "epoch", "skipped")


class Lifecycle:
    """What a run does around its loops; called by the loop, never by the user."""

    def __init__(self, run: Run):
        self._run = run
        self._last_save = self._save_cost = 0.0
        self._began_in: tuple[int, int] | None = None
        self._resumed = False
        self._read: dict[str, dict[str, Any]] = {}  # ended loops' states

    def begin(self, loop: Loop) -> bool:
        """Make everything ready for a loop; False when it had ended in an earlier process."""
        self._run.check_open()
        if self._run.active is not None:
            raise UsageError(
                f"loop {self._run.active.name!r} is still running", slug="loop-inside-a-loop",
                where=user_line(), hint="a second lw.Run for what runs inside another loop",
            )  # fmt: skip
        self._began_in = _here()
        self._run.stepper.discard()  # what a loop that failed, or a backward before this one, left
        self._bind_schedules(loop)
        loop.base = sum(one["turn"] for one in self._run.counts.values())
        loop.facts = describe(loop.source)
        state = self._state_for(loop)
        if state is not None:
            self._take_up(state)
            self._check_data(state["loop"], loop)
            self._check_length(state["loop"], loop)
            saving.restore(self._run, loop, state)
            ended = state["loop"]["ended"]
            extends = ended == "limit" and _goes_further(loop, state["loop"])
            if ended is not None and not extends:
                loop.source.leave(state["loop"]["source"])
                randomness.restore(state["random"], self._run.device)
                self._recall_end(loop, state)
                return False
            # Later loops, if any had begun, were trained from a state that is no more.
            self._resumed = True
            telling.begins(self._run, loop, resumed=True)
            if loop.turn and loop.source.iterators:
                warn_unknown_iterators(loop.source.iterators)
        else:
            telling.begins(self._run, loop, resumed=False)
        self._ready(loop, resumed=state is not None)
        self._run.history.forget_after(loop.base + loop.turn)
        trained = {p for w in self._run.stepper.windows.values() for p in w.parameters()}
        for module in self._run.models.values():
            # A trained model that is in eval as a whole was left so by something else; single parts
            # in eval (a frozen backbone's BatchNorm) and models that no optimizer trains (a teacher)
            # are the user's wish and stay.
            if not any(m.training for m in module.modules()) and any(
                p.requires_grad and p in trained for p in module.parameters()
            ):
                module.train()
        self._run.active = loop
        self._run.stopped = None
        self._run.outcome = Outcome()
        self._run.concluded = False
        self._run.stepper.guard.watch()
        self._run.stepper.reads_at_once = loop._on_cpu
        if loop._on_cpu:
            allocator.keep_memory(self._run.parts.largest_kept)
        self._run.nonfinite.recall.watch(self._run.models)
        loop.boundary = self._run.parts.boundary(loop)
        self._run.signals.install()
        loop.progress = Progress(
            shown=self._run.progress,
            epochs=loop.limits.whole_epochs(loop.source.length),
            bar=loop._bar,
            lr_of=whose(self._run.identity),
        )
        if self._run.files is not None:
            try:
                self._run.files.begin()
                if state is None:
                    self.save(loop, reason="start", background=False)
            except BaseException:  # a Ctrl-C, too, would leave a folder that was never begun
                self._run.files.undo_begin()
                self.release(loop)
                raise
        self._last_save = time.monotonic()
        self._run.fire("loop_begin")
        return True

    def _take_up(self, state: dict[str, Any]) -> None:
        """Fit a state to this process, which may have been left by several."""
        saving.for_one(state)

    def _ready(self, loop: Loop, *, resumed: bool) -> None:
        """Do what is left once a loop stands where it begins, or goes on."""

    def evaluation_begins(self, frame: FrameType, source: Source) -> None:
        """Note that a turn validates: the next that does is expected at the same distance."""
        loop = self._run.active
        if loop is not None and loop.current is not None:
            loop.boundary.evaluated()
            loop.values.measured_at = loop.base + loop.turn + 1
            files = self._run.files
            if files is not None:
                self._run.validation.note(frame, source, str(self._run.folder), files.allowed)

    def evaluated(self, seconds: float) -> None:
        """Book an evaluation's time as its own, not as the forward pass of the turn around it."""
        loop = self._run.active
        if loop is not None and loop.current is not None:
            loop.phase_evaluate += seconds
            loop.current._began += seconds

    def after_epoch(self, row: EpochRow) -> None:
        """Fire ``epoch_end`` and step the schedulers that count epochs or look at a value."""
        self._run.fire("epoch_end", values=dict(row.values), epoch=row.epoch)
        for schedule in self._run.schedules.values():
            if schedule.kind == "epoch":
                schedule.step()
            elif schedule.kind == "metric":
                if schedule.metric not in row.values:
                    raise UsageError(
                        f"a scheduler looks at {schedule.metric!r}, which epoch {row.epoch + 1} did "
                        f"not log (it has {', '.join(row.values)})",
                        slug="unknown-value", hint=f"step.log({schedule.metric}=…)",
                    )  # fmt: skip
                schedule.step(row.values[schedule.metric])

    def checkpoint_if_due(self, loop: Loop, step: Step) -> None:
        """Save after a turn where the policy says so."""
        if self._run.files is None or step.ends_run:
            return
        reason = self._due(loop, step)
        if reason is not None:
            loop.visit_host()
            self.save(loop, reason=reason)

    def _due(self, loop: Loop, step: Step) -> str | None:
        """Return why a checkpoint is due after a turn; None where none is."""
        policy, since = self._run.policy, time.monotonic() - self._last_save
        if policy.every_steps is not None and loop.turn % policy.every_steps == 0:
            return "steps"
        if policy.every_minutes is not None and since >= 60 * policy.every_minutes:
            return "minutes"
        if not step.ends_epoch or policy.every_epochs is None or loop.epoch % policy.every_epochs:
            return None
        assert self._run.files is not None
        cost = self._save_cost + self._run.files.background_seconds
        return "epoch" if allows(policy, cost, since) else None

    def save(
        self, loop: Loop, *, reason: str, ended: str | None = None, background: bool = True
    ) -> None:
        """Save the state at a turn's boundary; without a folder, do nothing."""
        if self._run.files is None:
            return
        started = time.monotonic()
        self._run.nonfinite.review()
        loop.boundary.settle()
        self._run.best_weights.write()
        self._run.files.save(
            self._collect(loop, ended), loop, reason,
            ended=ended is not None, background=background,
        )  # fmt: skip
        loop.boundary.saved()
        self._last_save = time.monotonic()
        self._save_cost = self._last_save - started
        name = self._run.files.checkpoint_name(loop, ended is not None)
        self._run.fire("checkpoint", values={"name": name, "reason": reason})

    def _collect(self, loop: Loop, ended: str | None) -> Any:
        return saving.collect(self._run, loop, ended)

    def interrupt(self, loop: Loop, step: Step) -> None:
        """End for a signal after a turn: save the boundary, and raise what the signal means."""
        if step.ends_epoch:
            loop.end_epoch(step)
        loop.visit_host()
        if self._run.stopped is None:
            self.save(loop, reason="signal", background=False)
            for line in telling.saved_state(self._run):
                self._run.line(line)
        else:
            self.end(loop, "stop")
        self._run.signals.end()

    def end(self, loop: Loop, how: str) -> None:
        """A loop reached its limit, or was stopped or left by break: it will not go on."""
        kind = "stopped" if how == "stop" else "finished"
        reason = self._run.stopped if how == "stop" and self._run.stopped else _reason(loop, how)
        loop.outcome = Outcome(kind, reason, loop.seconds)
        if self._run.files is not None:
            name = self._run.files.checkpoint_name(loop, ended=True)
            self._run.ended[loop.name] = {"name": name, "how": how}
            self.save(loop, reason="end", ended=how, background=False)
        self._finish(loop, loop.outcome)
        telling.ended(self._run, loop, how)
        self._run.fire("loop_end", values={"how": how})

    def leave(self, loop: Loop, how: str, frame: FrameType | None) -> None:
        """The for statement in ``frame`` dropped the loop in the middle of a body.

        Runs while the interpreter closes the iterator, where an exception would only be printed; it
        is kept for the run's next use, and for ``close()``. Where the body has raised, its exception
        is the one to see, and this one is only told of.
        """
        try:
            self._leave(loop, how, frame)
        except Exception as error:  # noqa: BLE001 - raised at the run's next use, or told of
            if how == "exception":
                self._tell(f"the run's end could not be written: {error}")
            else:
                self._run.deferred = error

    def process_ends(self) -> None:
        """End a loop whose iterator somebody holds until the interpreter's end (``it = iter(run.loop(…))``).

        The program has either come to its end, and left the loop where it was, or an exception has ended
        it. A loop of another thread may still be running, and that of a forked child is its parent's.
        """
        loop = self._run.active
        if loop is not None and self._began_in == _here():
            self.leave(loop, "exception" if hasattr(sys, "last_value") else "break", None)
            self.release(loop)

    def _leave(self, loop: Loop, how: str, frame: FrameType | None) -> None:
        step = loop.current
        if how == "exception":
            self._save_boundary(loop)
            reason = f"an exception left the loop in turn {loop.turn + 1}"
            kind = "interrupted" if self._run.signals.ended else "failed"
            self._finish(loop, Outcome(kind, reason, loop.elapsed()))
            if kind == "failed" and step is not None and frame is not None:
                from loopwright.train.mishaps.turn import body_left

                body_left(loop, step, frame)
            return
        if step is not None:
            loop.current = None
            pending = self._run.stepper.pending()
            if pending and all(window.agreed for window in pending):
                loop.update(None, None)
            elif pending:
                self._run.note(f"turn {step.index + 1} was left with gradients that nobody used")
                self._run.stepper.discard()
            loop.count_turn(step)
        loop.visit_host()
        loop.source.end_inside()
        self.end(loop, "break")

    def fail(self, loop: Loop, error: BaseException) -> None:
        """An exception came out of the loop itself, between two bodies."""
        self._save_boundary(loop)
        kind = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
        text = _text(error)
        self._finish(loop, Outcome(kind, text.split("\n")[0], loop.elapsed(), error=text))
        if kind == "failed":
            from loopwright.train.mishaps.turn import between_turns

            between_turns(loop, error)

    def left(self, error: BaseException) -> None:
        """An exception came to the end of the run's ``with`` block."""
        from loopwright.train.mishaps.turn import tell

        tell(error)
        self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Note the exception that ended the run."""
        run, ended = self._run, isinstance(error, (KeyboardInterrupt, SystemExit))
        text = _text(error)
        run.outcome = Outcome(
            "interrupted" if ended else "failed",
            text.split("\n")[0],
            run.outcome.seconds,
            error=text,
        )
        if run.files is not None:
            run.files.failed(run.outcome)

    def _save_boundary(self, loop: Loop) -> None:
        """Save the state at the beginning of a turn that did not come to its end, where it is known."""
        run, boundary = self._run, loop.boundary
        if run.files is None:
            return
        try:
            run.history.put_down()
            if run.nonfinite.raised or run.signals.at_once or boundary.is_saved():
                return
            if boundary.turn == loop.turn and loop.is_complete():
                return  # behind the last turn only a loop's end goes on with the generators as they are
            loop.current = None
            state = boundary.held or boundary.state()
            if state is None:
                return
            run.nonfinite.review()
            at = (boundary.turn, boundary.epoch)
            run.files.save(state, loop, "exception", at=at, background=False)
        except Exception as error:  # noqa: BLE001 - the exception that ends the loop is the one to see
            self._tell(f"the state before turn {loop.turn + 1} could not be saved: {error}")

    def _tell(self, text: str) -> None:
        """Say and note what went wrong after the exception that ends the run."""
        self._run.note(text.split("\n", maxsplit=1)[0])
        self._run.line(text)

    def _tell_of_time(self, loop: Loop, phases: dict[str, float]) -> None:
        """Note what has cost time, and what would cure it."""
        from loopwright.train.display import denormals

        loader, turns = loop.source.loader, loop.turn - loop.turns_before
        told = [denormals.advice(self._run.optimizers.values(), phases, turns)]
        if not in_memory(loader):
            told.append(waiting.advice(phases, turns, getattr(loader, "num_workers", None)))
        for text in filter(None, told):
            self._run.note(text)

    def release(self, loop: Loop) -> None:
        """Give back what a loop holds while it runs."""
        if loop.progress is not None:
            loop.progress.close()
        loop.source.close()
        del loop.boundary  # a cycle would keep a loader's persistent workers until a collection
        self._run.signals.restore()
        self._run.nonfinite.recall.release()
        self._run.stepper.guard.release()
        if self._run.active is loop:
            self._run.active = None

    def _bind_schedules(self, loop: Loop) -> None:
        for name, schedule in self._run.schedules.items():
            if not schedule.bound:
                batches = loop.source.length
                schedule.bind(
                    self._run.optimizers[name],
                    loop.limits.updates(batches, self._run.accumulate),
                    loop.limits.whole_epochs(batches),
                )

    def _count(self, loop: Loop) -> None:
        """Book a loop's counts; the run's totals are the sums over its loops."""
        counts = self._run.counts
        counts[loop.name] = {name: getattr(loop, name) for name in COUNTED}
        self._run.totals.update(
            {name: sum(one[name] for one in counts.values()) for name in COUNTED}
        )
        self._run.totals["turns"] = self._run.totals.pop("turn")
        self._run.totals["epochs"] = self._run.totals.pop("epoch")

    def _finish(self, loop: Loop, outcome: Outcome) -> None:
        self._run.outcome = outcome
        self._count(loop)
        if self._run.precision.skipped:
            self._run.totals["fp16_skipped_updates"] = self._run.precision.skipped
        for name in ("skipped", "rewinds"):
            if getattr(self._run.nonfinite, name):
                self._run.totals[f"nonfinite_{name}"] = getattr(self._run.nonfinite, name)
        phases = {name: getattr(loop, f"phase_{name}") for name in PHASES}
        for name, seconds in phases.items():
            self._run.phases[name] = self._run.phases.get(name, 0.0) + seconds
        self._tell_of_time(loop, phases)
        if self._run.files is not None:
            if outcome.kind == "failed" and not self.trained(loop):
                self._run.files.undo_begin()
            elif outcome.kind == "failed":
                self._run.files.failed(outcome)
            else:
                self._run.best_weights.write()
                self._run.files.finish(weights=outcome.kind != "interrupted")

    def trained(self, loop: Loop) -> bool:
        """Return whether there is anything to keep: a failure before that leaves no new folder behind.

        So a mistake that the first batch brings to light can be mended and the same command given
        again: nothing stands in the folder that it would be compared with.
        """
        return bool(loop.base + loop.turn + loop.updates) or self._resumed

    def _state_for(self, loop: Loop) -> dict[str, Any] | None:
        saved = self.saved_of(loop.name)
        self._read.pop(loop.name, None)
        if saved is not None and saved is self._run.saved_state():
            self._resumed = True
        return saved

    def saved_of(self, name: str) -> dict[str, Any] | None:
        """Return the state that a loop would go on from; None where it begins."""
        saved = None if self._resumed else self._run.saved_state()
        if saved is None or self._run.files is None:
            return None
        if saved["loop"]["name"] == name:
            return saved
        if name in saved["ended"] and name not in self._read:
            self._read[name] = self._run.files.load(saved["ended"][name]["name"])
        return self._read.get(name)

    def _recall_end(self, loop: Loop, state: dict[str, Any]) -> None:
        """Do what is left of a loop's end: its process may have died after the end's checkpoint."""
        run, files = self._run, self._run.files
        assert files is not None
        self._count(loop)
        files.protect(files.checkpoint_name(loop, ended=True))
        files.go_on_writing()
        newest = run.saved_state()
        left = run.outcome.kind not in ("finished", "stopped")
        if left and newest is not None and newest["loop"] == state["loop"]:
            self._finish(loop, Outcome(**state["outcome"]))
        telling.had_ended(run, loop)

    def _check_length(self, saved: dict[str, Any], loop: Loop) -> None:
        """Refuse less than what was trained: the state is not what is asked for."""
        limits = loop.limits.describe()
        if saved["limits"] == limits:
            return
        done = {"epochs": saved["epoch"], "steps": saved["turn"], "samples": saved["samples"],
                "tokens": saved["tokens"]}  # fmt: skip
        if saved["source"]["position"] or saved["source"].get("share", {"done": 0})["done"]:
            done["epochs"] += 1
        beyond = [name for name in done if name in limits and done[name] > limits[name]]
        identity.refuse_if_different(
            {f"loop {loop.name} {name}": done[name] for name in beyond},
            {f"loop {loop.name} {name}": limits[name] for name in beyond},
            str(self._run.folder), self._run.files.allowed if self._run.files is not None else (),
        )  # fmt: skip

    def _check_data(self, saved: dict[str, Any], loop: Loop) -> None:
        then, now = comparable(saved["data"], loop.facts)
        identity.refuse_if_different(
            {f"loader {k}": v for k, v in then.items()},
            {f"loader {k}": v for k, v in now.items()},
            str(self._run.folder), self._run.files.allowed if self._run.files is not None else (),
            what="holds a run on other data", hint=likely_cause(then, now),
        )  # fmt: skip
        warn_of_other_workers(saved["data"], loop.facts)


def _here() -> tuple[int, int]:
    """Return the process and the thread."""
    return os.getpid(), threading.get_ident()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _reason(loop: Loop, how: str) -> str:
    if how == "break":
        return f"the loop was left in turn {loop.turn}"
    limits = loop.limits.describe().items()
    return ", ".join(f"{value} {name[:-1] if value == 1 else name}" for name, value in limits)


def _goes_further(loop: Loop, saved: dict[str, Any]) -> bool:
    limits = loop.limits
    if saved["limits"] == limits.describe():
        return False
    return not (
        (limits.epochs is not None and saved["epoch"] >= limits.epochs)
        or (limits.steps is not None and saved["turn"] >= limits.steps)
        or (limits.samples is not None and saved["samples"] >= limits.samples)
        or (limits.tokens is not None and saved["tokens"] >= limits.tokens)
        or (limits.minutes is not None and saved["seconds"] >= 60 * limits.minutes)
    )
