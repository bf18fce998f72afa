"""The run: models, optimizers and everything that is saved; makes loops and evaluations."""

from __future__ import annotations

import atexit
import contextlib
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.events import Outcome
from loopwright.train import identity, prepare, randomness, saving
from loopwright.train.callbacks import Callback, Event, Moments
from loopwright.train.environment import environment
from loopwright.train.evaluation import Evaluation
from loopwright.train.gradients import parse_clip
from loopwright.train.history import History
from loopwright.train.limits import Limits
from loopwright.train.loop import Loop
from loopwright.train.policy import Checkpoint
from loopwright.train.precision import Precision
from loopwright.train.progress import Progress
from loopwright.train.run_folder import RunFolder
from loopwright.train.schedules import Schedule, resolve
from loopwright.train.signals import Signals
from loopwright.train.source import Source
from loopwright.train.step import Step
from loopwright.train.stepper import Stepper
from loopwright.train.transfer import Transfer
from loopwright.train.window import Window

LIMITS = ("epochs", "steps", "minutes", "samples", "tokens")

_RUNS: weakref.WeakSet[Run] = weakref.WeakSet()
"""Runs of this process: a new one on an older one's folder closes that; all are closed at exit."""


@atexit.register
def _close_all() -> None:
    for run in list(_RUNS):
        run.close()


class Run:
    """Owns what is trained and what is saved; the loop stays yours.

    Example::

        run = lw.Run("runs/digits", model=model, optimizer=optimizer)
        for step in run.loop(train_loader, epochs=5):
            inputs, labels = step.batch
            loss = criterion(run.model(inputs), labels)
            step.backward(loss)
            step.update()

    Args:
        out: the run's folder; the same command again resumes there. None: nothing is written.
        model: a module, or a dict of several. Moved to ``device`` in place.
        optimizer: an optimizer, a function ``params -> Optimizer``, or a dict of those.
        scheduler: with its unit: ``lw.per_epoch(s)``, ``lw.per_update(s)``, ``lw.on_metric(s, name)``,
            ``lw.warmup_cosine()``; or a dict by optimizer name.
        ema: an ``lw.EMA`` (or its decay); evaluation and the final weights then use the average.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` (autocast; fp16 with a gradient scaler).
        accumulate: micro-batches per update.
        clip: largest global gradient norm, or ``"value:0.5"`` for each element.
        compile: True, or keywords for ``torch.nn.Module.compile``; undone by ``close()``.
        device: ``"auto"`` takes the accelerator where there is one.
        deterministic: torch's deterministic algorithms, until ``close()``.
        checkpoint: an ``lw.Checkpoint`` policy.
        resume: ``"auto"`` goes on where the folder's run stopped if the settings are the same,
            ``"never"`` puts an old folder aside, ``"always"`` refuses to begin anew.
        log: trackers by name (``"tensorboard"``) or functions that are called with the run.
        callbacks: functions that are called with the run and register what they want (``run.on``).
        progress: bars and epoch lines on stderr.
        name: the run's title; by default the folder's name.
        settings: plain values that belong to the run's identity (your hyper-parameters).
        recipe: name, file and parameters of the recipe, where one made the run.
        allow_change: names of settings that may differ on resume.

    Raises:
        UsageError: a setting that cannot be.
        CheckpointError: the folder is another run's, a newer version's, or in use.
    """

    def __init__(
        self,
        out: str | Path | None = None,
        *,
        model: nn.Module | Mapping[str, nn.Module],
        optimizer: Any,
        scheduler: Any = None,
        ema: Any = None,
        precision: str = "fp32",
        accumulate: int = 1,
        clip: float | str | None = None,
        compile: bool | dict[str, Any] = False,  # noqa: A002 - torch's word
        device: str | torch.device = "auto",
        deterministic: bool = False,
        checkpoint: Checkpoint | None = None,
        resume: str = "auto",
        log: Sequence[Any] | str = (),
        callbacks: Sequence[Callable[[Run], Any]] = (),
        progress: bool = True,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        allow_change: Sequence[str] = (),
    ):
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            raise UsageError(
                f"accumulate is a whole number from 1, got {accumulate!r}",
                slug="accumulate-out-of-range",
            )
        if resume not in ("auto", "never", "always"):
            raise UsageError(
                f"resume is 'auto', 'never' or 'always', got {resume!r}", slug="unknown-resume"
            )
        self.device = prepare.pick_device(device)
        self.precision = Precision(precision, self.device)
        clip_rule = parse_clip(clip)
        self.models, self._several_models = prepare.models(model)
        for module in self.models.values():
            module.to(self.device)
        self.optimizers, self._several_optimizers = prepare.optimizers(
            optimizer, self.models, self._several_models
        )
        self.accumulate = accumulate
        self.stepper = Stepper(
            self.optimizers, precision=self.precision, clip=clip_rule,
            names=self._parameter_names, after_step=self._after_step,
        )  # fmt: skip
        self.schedules = self._resolve_schedules(scheduler)
        self.ema = _ema(ema)
        if self.ema is not None:
            self.ema.attach(self.models)
        self.policy = checkpoint if checkpoint is not None else Checkpoint()
        self.transfer = Transfer(self.device)
        self.signals = Signals()
        self.moments = Moments()
        self.stopped: str | None = None
        self.best: dict[str, dict[str, float]] = {}
        self.kept: dict[str, Any] = {}
        self.tracked: dict[str, Any] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.totals: dict[str, float] = {}
        self.outcome = Outcome()
        self.closed = False
        self._progress = progress
        self._loops: list[str] = []
        self._active: Loop | None = None
        self._began = time.monotonic()
        self._saved: dict[str, Any] | None = None
        self._looked = self._resumed = False
        self._deferred: BaseException | None = None
        self._averaging_off = False
        self.resumed_finished = False
        self.phases: dict[str, float] = {}
        self.samples: list[str] = []
        self._last_save = self._save_cost = 0.0
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._best_dirty = False
        self._uncovered_checked = False
        self._deterministic_before: bool | None = None
        if deterministic:
            self._deterministic_before = torch.are_deterministic_algorithms_enabled()
            torch.use_deterministic_algorithms(True)
        self.environment = environment(self.device)
        self.identity = identity.describe(
            self.models, self.optimizers,
            {"precision": precision, "accumulate": accumulate, "clip": clip, "compile": compile,
             "deterministic": deterministic,
             "ema": None if self.ema is None else repr(self.ema),
             "scheduler": {k: identity.plain(s.scheduler) for k, s in self.schedules.items()} or None},
            {k: v for k, v in {**self._parameters(recipe), **(settings or {})}.items()
             if k not in LIMITS},
        )  # fmt: skip
        self.asked = identity.plain(dict(settings or {}))
        self.settings = {
            **self._parameters(recipe), **dict(settings or {}), "precision": precision, "accumulate": accumulate,
            "clip": clip, "compile": bool(compile), "device": str(self.device),
            "deterministic": deterministic,
        }  # fmt: skip
        self.recipe = None if recipe is None else dict(recipe)
        self.folder = None if out is None else Path(out)
        self.name = name or (self.folder.name if self.folder is not None else "run")
        self.files: RunFolder | None = None
        if self.folder is not None:
            _close_older(self.folder)
            self.files = RunFolder(self, self.folder, resume, tuple(allow_change))
        elif resume == "always":
            raise UsageError("resume='always' needs out=", slug="resume-without-out")
        self.history = History() if self.files is None else self.files.history()
        _RUNS.add(self)
        if compile:
            for module in self.models.values():
                module.compile(**(compile if isinstance(compile, dict) else {}))
        self._compiled = bool(compile)
        for register in [*_trackers(log), *callbacks]:
            register(self)

    # -- what was given, prepared --------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The module to call; a dict of them when a dict was given."""
        return self.models if self._several_models else self.models["model"]

    @property
    def optimizer(self) -> Any:
        """The optimizer; a dict of them when a dict was given."""
        return self.optimizers if self._several_optimizers else self.optimizers["optimizer"]

    def lr(self) -> float:
        """Return the learning rate of the first optimizer's first group."""
        return float(next(iter(self.optimizers.values())).param_groups[0]["lr"])

    # -- the loop ------------------------------------------------------------------------------

    def loop(
        self,
        loader: Any,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        samples: int | None = None,
        tokens: int | None = None,
        name: str | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
    ) -> Loop:
        """Return a loop over ``loader``; the first limit that is reached ends it.

        Args:
            loader: a DataLoader, any sized or unsized iterable of batches, a function that makes one
                epoch's iterator, or a map-style data set together with ``batch_size``.
            epochs: passes over the loader.
            steps: turns, over as many epochs as it takes.
            minutes: wall-clock time, earlier processes of a resumed run included.
            samples: first dimensions of the batches' first tensors, added up.
            tokens: elements of the batches' first two-dimensional integer tensors, added up.
            name: by which a resumed program finds this loop again; by default its number.
            batch_size: for a data set.
            shuffle: for a data set.
        """
        self._check_open()
        limits = Limits(epochs, steps, minutes, samples, tokens)
        name = str(len(self._loops)) if name is None else name
        if name in self._loops:
            raise UsageError(f"this run has a loop called {name!r} already", slug="loop-name-taken")
        source = Source(loader, batch_size=batch_size, shuffle=shuffle)
        self._loops.append(name)
        return Loop(self, source, limits, name)

    def evaluate(self, loader: Any, *, batch_size: int | None = None) -> Evaluation:
        """Return batches of ``loader`` for validation: eval mode, no gradients, generators of its own.

        Training is the same, bit for bit, with and without it. With an EMA the averaged weights are
        in the model meanwhile.
        """
        self._check_open()
        return Evaluation(self, loader, batch_size)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the EMA's weights in the models for the length of a block; nothing without an EMA."""
        if self.ema is None or not self.ema.started or self._averaging_off:
            yield
            return
        with self.ema.swapped():
            yield

    @contextlib.contextmanager
    def averaging_off(self) -> Iterator[None]:
        """Leave the weights in the models as they are, also in ``evaluate``, for a block."""
        before, self._averaging_off = self._averaging_off, True
        try:
            yield
        finally:
            self._averaging_off = before

    def stop(self, reason: str) -> None:
        """End the loop after this turn."""
        self.stopped = reason

    # -- values, state, callbacks --------------------------------------------------------------

    def log(self, **values: float) -> None:
        """Record results of the whole run, such as the accuracy on a test set."""
        for name, value in values.items():
            read = getattr(value, "compute", None)
            self.totals[name] = float(read() if callable(read) else value)
        if self._active is None and self.files is not None:
            self.files.finish(weights=False)

    def keep_best(self, name: str, mode: str = "max") -> bool:
        """Keep the weights if the value logged as ``name`` in this epoch is the best so far.

        They go to ``best.safetensors``, and back into the model by ``load_best``. With an EMA they
        are the averaged ones.
        """
        if mode not in ("min", "max"):
            raise UsageError(f"mode is 'min' or 'max', got {mode!r}", slug="unknown-mode")
        loop = self._active
        value = None if loop is None else loop.latest(name)
        if loop is None or value is None:
            raise UsageError(
                f"keep_best({name!r}): nothing of that name was logged in this epoch",
                slug="unknown-value", hint=f"step.log({name}=…) before it",
            )  # fmt: skip
        before = self.best.get(name, {}).get("value")
        worse = before is not None and not (value > before if mode == "max" else value < before)
        if worse or math.isnan(value):
            return False
        self.best[name] = {"value": value, "turn": loop.turn + 1, "epoch": loop.epoch + 1}
        self._best_weights = self.weights(averaged=True)
        self._best_dirty = True
        return True

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load weights as ``weights()`` returned them into the models."""
        for key, module in self.models.items():
            prefix = f"{key}." if self._several_models else ""
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            )

    def load_best(self) -> bool:
        """Load the weights that ``keep_best`` kept into the models; False where there are none."""
        if self._best_weights is None and self.files is not None:
            self._best_weights = self.files.read_best()
        if self._best_weights is None:
            return False
        self.load_weights(self._best_weights)
        return True

    def track(self, name: str, thing: Any) -> None:
        """Save and restore an object with ``state_dict`` and ``load_state_dict``."""
        for method in ("state_dict", "load_state_dict"):
            if not callable(getattr(thing, method, None)):
                raise UsageError(
                    f"run.track({name!r}): {type(thing).__name__} has no {method}()",
                    slug="not-trackable", hint="run.keep(name, value) for a plain value",
                )  # fmt: skip
        self.tracked[name] = thing

    def keep(self, name: str, value: Any) -> Any:
        """Return the value that was saved under ``name``, or keep this one; saved from now on."""
        saved = self._saved_state()
        if name not in self.kept and saved is not None and name in saved["kept"]:
            self.kept[name] = saved["kept"][name]
            return self.kept[name]
        self.kept[name] = value
        return value

    def on(self, moment: str, function: Callback | None = None) -> Any:
        """Call ``function(event)`` at a moment; also a decorator: ``@run.on("epoch_end")``."""
        if function is None:
            return lambda fn: (self.moments.on(moment, fn), fn)[1]
        self.moments.on(moment, function)
        return function

    def note(self, text: str) -> None:
        """Add a line to the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(self) -> None:
        """Write the report and the outcome again, with what was added after the last loop."""
        if self.files is not None:
            self.files.finish(weights=False)

    def add_to_report(self, predictions: Any) -> None:
        """Show predictions (confusion matrix, worst samples) in the report."""
        if self.files is not None:
            self.files.add_classification(predictions.record())

    def fire(self, moment: str, *, values: dict[str, Any] | None = None, epoch: int | None = None) -> None:
        """Call who listens to a moment."""
        if not self.moments.wanted(moment):
            return
        loop = self._active
        self.moments.fire(
            Event(
                moment, self, None if loop is None else loop.current,
                0 if loop is None else loop.turn,
                epoch if epoch is not None else (0 if loop is None else loop.epoch),
                values or {},
            )
        )  # fmt: skip

    # -- called by the loop --------------------------------------------------------------------

    def begin_loop(self, loop: Loop) -> bool:
        """Make everything ready for a loop; False when it had ended in an earlier process."""
        self._check_open()
        if self._active is not None:
            raise UsageError(
                f"loop {self._active.name!r} is still running", slug="loop-inside-a-loop",
                hint="a second lw.Run for what runs inside another loop",
            )  # fmt: skip
        self._bind_schedules(loop)
        state = self._state_for(loop)
        if state is not None:
            self._check_data(state["loop"], loop)
            saving.restore(self, loop, state)
            self.history.resumed(loop.turn)
            ended = state["loop"]["ended"]
            extends = ended == "limit" and _goes_further(loop, state["loop"])
            if ended is not None and not extends:
                loop.source.restore_generators(state["loop"]["source"])
                randomness.restore(state["random"], self.device)
                self.ended[loop.name] = {"name": self.ended.get(loop.name, {}).get("name", ""),
                                         "how": ended}  # fmt: skip
                self.resumed_finished = True
                self._line(f"loop {loop.name}: had ended after {loop.turn} turns; nothing to do")
                return False
            self._line(f"resumed at turn {loop.turn} (epoch {loop.epoch + 1})")
        for module in self.models.values():
            # A model that is in eval as a whole was left so by something else; single parts in eval
            # (a frozen backbone's BatchNorm) are the user's wish and stay.
            if not any(m.training for m in module.modules()):
                module.train()
        self._active = loop
        self.stopped = None
        self.outcome = Outcome()
        self.stepper.guard.watch()
        self.signals.install()
        loop.progress = Progress(
            shown=self._progress, epochs=loop.limits.whole_epochs(loop.source.length), bar=loop._bar
        )
        if self.files is not None:
            self.files.begin()
            if state is None:
                self.save_checkpoint(loop, reason="start", background=False)
        self._last_save = time.monotonic()
        self.fire("loop_begin")
        return True

    def evaluated(self, seconds: float) -> None:
        """Book an evaluation's time as its own, not as the forward pass of the turn around it."""
        loop = self._active
        if loop is not None and loop.current is not None:
            loop.phase_evaluate += seconds
            loop.current._began += seconds

    def after_epoch(self, loop: Loop, row: Any) -> None:
        """Fire ``epoch_end`` and step the schedulers that count epochs or look at a value."""
        self.fire("epoch_end", values=dict(row.values), epoch=row.epoch)
        for schedule in self.schedules.values():
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
        if self.files is None or step.ends_run:
            return
        policy, now = self.policy, time.monotonic()
        if policy.every_steps is not None and loop.turn % policy.every_steps == 0:
            reason = "steps"
        elif (
            policy.every_minutes is not None and now - self._last_save >= 60 * policy.every_minutes
        ):
            reason = "minutes"
        elif (
            policy.every_epochs is not None and step.ends_epoch
            and loop.epoch % policy.every_epochs == 0
            and self._save_cost <= policy.most * (now - self._last_save)
        ):  # fmt: skip
            reason = "epoch"
        else:
            return
        loop.visit_host()
        self.save_checkpoint(loop, reason=reason)

    def save_checkpoint(
        self, loop: Loop, *, reason: str, ended: str | None = None, background: bool = True
    ) -> None:
        """Save the state at a turn's boundary; without a folder, do nothing."""
        if self.files is None:
            return
        started = time.monotonic()
        self._write_best()
        self.files.save(
            saving.collect(self, loop, ended), loop, reason,
            ended=ended is not None, background=background,
        )  # fmt: skip
        self._last_save = time.monotonic()
        self._save_cost = self._last_save - started
        self.fire("checkpoint", values={"reason": reason})

    def end_loop(self, loop: Loop, how: str) -> None:
        """A loop reached its limit, or was stopped or left by break: it will not go on."""
        if self.files is not None:
            name = self.files.checkpoint_name(loop, ended=True)
            self.ended[loop.name] = {"name": name, "how": how}
            self.save_checkpoint(loop, reason="end", ended=how, background=False)
        kind = "stopped" if how == "stop" else "finished"
        reason = self.stopped if how == "stop" and self.stopped else _reason(loop, how)
        self._finish(loop, Outcome(kind, reason, loop.seconds))
        self.fire("loop_end", values={"how": how})

    def leave_loop(self, loop: Loop, how: str) -> None:
        """The for statement dropped the loop in the middle of a body.

        Runs while the interpreter closes the iterator, where an exception would only be printed; it
        is kept for the run's next use, and for ``close()``.
        """
        try:
            self._leave(loop, how)
        except Exception as error:
            self._deferred = error

    def _leave(self, loop: Loop, how: str) -> None:
        step = loop.current
        if how == "exception":
            reason = f"an exception left the loop in turn {loop.turn + 1}"
            self._finish(loop, Outcome("failed", reason, loop.elapsed()))
            return
        if step is not None:
            loop.current = None
            pending = self.stepper.pending()
            if pending and all(window.agreed for window in pending):
                loop.update(None, None)
            elif pending:
                self.note(f"turn {step.index + 1} was left with gradients that nobody used")
                self.stepper.discard()
            loop.count_left_turn(step)
        loop.visit_host()
        self.end_loop(loop, "break")

    def fail_loop(self, loop: Loop, error: BaseException) -> None:
        """An exception came out of the loop itself, between two bodies."""
        kind = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._finish(loop, Outcome(kind, text.split("\n")[0], loop.elapsed(), error=text))

    def release_loop(self, loop: Loop) -> None:
        """Give back what a loop holds while it runs."""
        if loop.progress is not None:
            loop.progress.close()
        loop.source.close()
        self.signals.restore()
        self.stepper.guard.release()
        if self._active is loop:
            self._active = None

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is left to write and give everything back; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        if self._compiled:
            for module in self.models.values():
                module._compiled_call_impl = None
        if self._deterministic_before is not None:
            torch.use_deterministic_algorithms(self._deterministic_before)
        self.fire("close")
        if self.files is not None:
            self.files.close()
        if self._deferred is not None:
            error, self._deferred = self._deferred, None
            raise error

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self._failed(error)
        self.close()

    def _failed(self, error: BaseException) -> None:
        ended = isinstance(error, (KeyboardInterrupt, SystemExit))
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        first = text.split("\n")[0]
        self.outcome = Outcome(
            "interrupted" if ended else "failed", first, self.outcome.seconds, error=text
        )
        if self.files is not None:
            self.files.failed(self.outcome)

    def _repr_html_(self) -> str:
        return self.history._repr_html_()

    def __repr__(self) -> str:
        where = f" in {self.folder}" if self.folder is not None else ""
        return f"<Run {self.name!r}{where}: {self.outcome.kind}>"

    # -- inside --------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._deferred is not None:
            error, self._deferred = self._deferred, None
            raise error
        if self.closed:
            raise UsageError(
                "this run is closed", slug="run-closed",
                hint="a newer lw.Run on the same folder closes the older one",
            )  # fmt: skip

    def _resolve_schedules(self, scheduler: Any) -> dict[str, Schedule]:
        if scheduler is None:
            return {}
        given = (
            dict(scheduler) if isinstance(scheduler, Mapping)
            else {next(iter(self.optimizers)): scheduler}
        )  # fmt: skip
        if unknown := [name for name in given if name not in self.optimizers]:
            raise UsageError(
                f"scheduler {unknown[0]!r} names no optimizer ({', '.join(self.optimizers)})",
                slug="unknown-optimizer",
            )
        if len(self.optimizers) > 1 and not isinstance(scheduler, Mapping):
            raise UsageError(
                "one scheduler and several optimizers", slug="which-optimizer",
                hint=f"scheduler={{{next(iter(self.optimizers))!r}: …}}",
            )  # fmt: skip
        resolved = {k: resolve(s, self.optimizers[k]) for k, s in given.items()}
        return {k: s for k, s in resolved.items() if s is not None}

    def _bind_schedules(self, loop: Loop) -> None:
        for name, schedule in self.schedules.items():
            if not schedule.bound:
                batches = loop.source.length
                schedule.bind(
                    self.optimizers[name],
                    loop.limits.updates(batches, self.accumulate),
                    loop.limits.whole_epochs(batches),
                )

    def _after_step(self, window: Window, metric: Any) -> None:
        schedule = self.schedules.get(window.name)
        if schedule is not None and schedule.kind == "update":
            schedule.step(metric)
        if self.ema is not None:
            self.ema.update()
        if not self._uncovered_checked:
            self._uncovered_checked = True
            prepare.warn_about_uncovered(self.optimizers, self.models)

    def _parameter_names(self) -> dict[torch.Tensor, str]:
        return {
            p: name if len(self.models) == 1 else f"{key}.{name}"
            for key, module in self.models.items()
            for name, p in module.named_parameters()
        }

    def weights(self, *, averaged: bool) -> dict[str, torch.Tensor]:
        """Return copies of all weights, with the model's name in front where there are several."""
        with self.averaged() if averaged else contextlib.nullcontext():
            return {
                (f"{key}.{name}" if self._several_models else name): value.detach().clone()
                for key, module in self.models.items()
                for name, value in module.state_dict().items()
                if isinstance(value, torch.Tensor)
            }

    def _write_best(self) -> None:
        if self._best_dirty and self.files is not None and self._best_weights is not None:
            self.files.write_best(self._best_weights)
            self._best_dirty = False

    def _finish(self, loop: Loop, outcome: Outcome) -> None:
        self.outcome = outcome
        self.totals.update(
            turns=loop.turn, updates=loop.updates, samples=loop.samples, epochs=loop.epoch,
            skipped=loop.skipped,
        )  # fmt: skip
        if loop.tokens:
            self.totals["tokens"] = loop.tokens
        if self.precision.skipped:
            self.totals["fp16_skipped_updates"] = self.precision.skipped
        for name in ("fetch", "transfer", "forward", "backward", "step", "item", "evaluate"):
            before = self.phases.get(name, 0.0)
            self.phases[name] = before + getattr(loop, f"phase_{name}")
        if self.files is not None:
            if outcome.kind == "failed":
                self.files.failed(outcome)
            else:
                self._write_best()
                self.files.finish(weights=outcome.kind != "interrupted")

    @staticmethod
    def _parameters(recipe: Mapping[str, Any] | None) -> dict[str, Any]:
        return dict((recipe or {}).get("parameters") or {})

    def _saved_state(self) -> dict[str, Any] | None:
        if self._saved is None and self.files is not None and not self._looked:
            self._looked = True
            self._saved = self.files.newest()
        return self._saved

    def _state_for(self, loop: Loop) -> dict[str, Any] | None:
        saved = None if self._resumed else self._saved_state()
        if saved is None or self.files is None:
            return None
        if saved["loop"]["name"] == loop.name:
            self._saved = None
            self._resumed = True
            return saved
        if loop.name in saved["ended"]:
            return self.files.load(saved["ended"][loop.name]["name"])
        return None

    def _check_data(self, saved: dict[str, Any], loop: Loop) -> None:
        identity.refuse_if_different(
            {f"loader {k}": v for k, v in saved["data"].items()},
            {f"loader {k}": v for k, v in loop.source.describe().items()},
            str(self.folder), self.files.allowed if self.files is not None else (),
        )  # fmt: skip

    def _line(self, text: str) -> None:
        if self._progress:
            print(text, file=sys.stderr)


def _close_older(folder: Path) -> None:
    for run in list(_RUNS):
        same = run.folder is not None and run.folder.resolve() == folder.resolve()
        if same and not run.closed:
            run.close()


def _ema(ema: Any) -> Any:
    if ema is None or ema is False:
        return None
    from loopwright.train.ema import EMA

    return ema if isinstance(ema, EMA) else EMA(decay=ema)


def _trackers(log: Sequence[Any] | str) -> Iterable[Callable[[Run], Any]]:
    names = [log] if isinstance(log, str) else list(log)
    if not names:
        return []
    from loopwright.train.trackers import resolve as tracker

    return [tracker(one) for one in names]


def _reason(loop: Loop, how: str) -> str:
    if how == "break":
        return f"the loop was left in turn {loop.turn}"
    return ", ".join(f"{value} {name}" for name, value in loop.limits.describe().items())


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
