"""The run: models, optimizers and everything that is saved; makes loops and evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.events import Outcome
from loopwright.train import prepare, trackers
from loopwright.train.callbacks import Callback, Event, Moments
from loopwright.train.callsite import user_frame, user_line
from loopwright.train.data.own_state import OwnState
from loopwright.train.data.transfer import Transfer
from loopwright.train.data.validation import ValidationData
from loopwright.train.display import telling
from loopwright.train.evaluation import Evaluation
from loopwright.train.folder.history import History
from loopwright.train.folder.writing import RunFolder
from loopwright.train.limits import Limits
from loopwright.train.loop import Loop
from loopwright.train.models.averaging import Averaging
from loopwright.train.models.best import BestWeights
from loopwright.train.parts import parts_of_a_run
from loopwright.train.process import environment, runs
from loopwright.train.state import identity, saving
from loopwright.train.state.policy import Checkpoint
from loopwright.train.update.gradients import parse_clip
from loopwright.train.update.nonfinite import NonFinite
from loopwright.train.update.precision import Precision
from loopwright.train.update.window import Window

if TYPE_CHECKING:
    from loopwright.train.capture.step import CapturedStep


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
        nonfinite: what a loss or gradient that is nan or inf leads to: ``"stop"`` (an error that names
            the first module), ``"skip"`` (the update is left out) or ``"rewind"`` (weights and optimizers
            go back to the newest checkpoint, the data goes on). It is never stepped on.
        nonfinite_every: on an accelerator, look at every so many updates only; see ``NonFinite``.
        parallel: how the ranks of ``torchrun`` train one model: ``"ddp"``, ``"fsdp"``, or a dict with that
            as its ``strategy``, ``timeout_s`` and keywords of what does it.

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
        nonfinite: str = "stop",
        nonfinite_every: int = 1,
        parallel: str | Mapping[str, Any] = "ddp",
    ):
        prepare.check(accumulate=accumulate, resume=resume, nonfinite=nonfinite, out=out)
        self.parts = parts_of_a_run(parallel, model)
        self.device = self.parts.pick_device(device)
        self.precision = Precision(precision, self.device)
        clip_rule = parse_clip(clip)
        self.models, self._several_models = prepare.models(model)
        given, self.models = self.models, self.parts.bare(self.models)
        self.parts.place(self.models, self.device, optimizer)
        self.optimizers, self._several_optimizers = prepare.optimizers(optimizer, self.models)
        self.accumulate = accumulate
        self.nonfinite = NonFinite(self, nonfinite, nonfinite_every)
        self.validation = ValidationData()
        self.own = OwnState(model=self.models, optimizer=self.optimizers)
        self.stepper = self.parts.stepper(
            self.optimizers, precision=self.precision, clip=clip_rule,
            names=partial(prepare.parameter_names, self.models), after_step=self._after_step,
            nonfinite=self.nonfinite,
        )  # fmt: skip
        self.schedules = prepare.schedules(scheduler, self.optimizers)
        self.ema = prepare.ema(ema)
        if self.ema is not None:
            self.ema.attach(self.models)
        self.policy = checkpoint if checkpoint is not None else Checkpoint()
        self.transfer = Transfer(self.device)
        self.signals = self.parts.signals()
        self.moments = Moments()
        self.stopped: str | None = None
        self.best: dict[str, dict[str, float]] = {}
        self.kept: dict[str, Any] = {}
        self.tracked: dict[str, Any] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.totals: dict[str, float] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self.outcome = Outcome()
        self.closed = False
        self.summarised = False  # somebody else tells how it ended
        self.progress = progress and self.parts.is_first
        self._loops: list[str] = []
        self.active: Loop | None = None
        self._saved: dict[str, Any] | None = None
        self._looked = False
        self.deferred: BaseException | None = None
        self.averaging = Averaging(self.ema)
        self.concluded = False  # what comes after the last loop was done
        self.phases: dict[str, float] = {}
        self.samples: list[str] = []
        self.best_weights = BestWeights(self)
        self.lifecycle = self.parts.lifecycle(self)
        self._uncovered_checked = False
        self._deterministic_before: bool | None = None
        if deterministic:
            self._deterministic_before = prepare.deterministic(self.device)
        self.environment = {**environment.environment(self.device, recipe), **self.parts.facts}
        engine = {
            "precision": precision, "accumulate": accumulate, "clip": clip, "compile": compile,
            "deterministic": deterministic,
        }  # fmt: skip
        parameters = dict((recipe or {}).get("parameters") or {})
        self.settings = {
            **parameters, **dict(settings or {}), **engine, "compile": bool(compile),
            "device": str(self.device),
        }  # fmt: skip
        self.identity = identity.of_run(self, engine, {**parameters, **(settings or {})})
        self.asked = identity.plain(dict(settings or {}))
        self.recipe = None if recipe is None else dict(recipe)
        self.folder = None if out is None else Path(out)
        self.name = name or (self.folder.name if self.folder is not None else "run")
        self.files: RunFolder | None = None
        if self.folder is not None:
            self.files = self._open_folder(self.folder, resume, tuple(allow_change))
        files = self.files
        self.history = History() if files is None else files.history()
        runs.add(self)
        if compile:
            for module in self.models.values():
                module.compile(**(compile if isinstance(compile, dict) else {}))
        self._compiled = bool(compile)
        self.callables = self.parts.wrap(given, self.models, self.device)
        for register in [*(trackers.resolve_all(log) if self.parts.is_first else ()), *callbacks]:
            register(self)

    # -- what was given, prepared --------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The module to call, over all ranks where there are several; a dict when a dict was given."""
        return self.callables if self._several_models else self.callables["model"]

    @property
    def optimizer(self) -> Any:
        """The optimizer; a dict of them when a dict was given."""
        return self.optimizers if self._several_optimizers else self.optimizers["optimizer"]

    @property
    def rank(self) -> int:
        """This process among those that train the model, from 0; the first one writes and shows."""
        return self.parts.rank

    @property
    def world_size(self) -> int:
        """How many processes train the model."""
        return self.parts.size

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
        sharded: bool = False,
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
            sharded: among several ranks, the loader gives this rank's own share already.
        """
        self.check_open()
        limits = Limits(epochs, steps, minutes, samples, tokens)
        name = str(len(self._loops)) if name is None else name
        if name in self._loops:
            raise UsageError(
                f"this run has a loop called {name!r} already",
                slug="loop-name-taken", where=user_line(),
            )  # fmt: skip
        source = self.parts.source_of_loop(
            self, name, loader, batch_size=batch_size, shuffle=shuffle, sharded=sharded, around=user_frame()
        )  # fmt: skip
        self._loops.append(name)
        return self.parts.loop(self, source, limits, name)

    def compile_step(self, fn: Callable[[Any], Any], *, mode: str = "exact") -> CapturedStep:
        """Return a training step that is recorded once and replayed without Python, with the same bits.

        ``loss = train(step)`` is forward, ``step.backward``, ``step.update``. See ``CapturedStep``.

        Args:
            fn: ``fn(batch)`` returns the loss.
            mode: ``"fast"`` may compile it, and compute in fp32 what is slower in bf16, where that pays.

        Example::

            train = run.compile_step(lambda batch: criterion(run.model(batch[0]), batch[1]))
            for step in run.loop(train_loader, epochs=5):
                train(step)
        """
        from loopwright.train.capture.step import CapturedStep

        return CapturedStep(self, fn, mode)

    def evaluate(
        self, loader: Any, *, batch_size: int | None = None, sharded: bool = False
    ) -> Evaluation:
        """Return batches of ``loader`` for validation: eval mode, no gradients, generators of its own.

        Training is the same, bit for bit, with and without it. With an EMA the averaged weights are
        in the model meanwhile. Among several ranks each gets a share (``sharded``: its loader gives
        that already), no sample twice; call it on every rank.
        """
        self.check_open()
        return Evaluation(self, loader, batch_size, sharded=sharded)

    def averaged(self) -> AbstractContextManager[None]:
        """Have the EMA's weights in the models for the length of a block; nothing without an EMA."""
        return self.averaging.in_models()

    def stop(self, reason: str) -> None:
        """End the loop after this turn; among several ranks after the next, when all know."""
        self.parts.stop(self, reason)

    # -- values, state, callbacks --------------------------------------------------------------

    def log(self, **values: float) -> None:
        """Record results of the whole run, such as the accuracy on a test set."""
        for name, value in values.items():
            read = getattr(value, "compute", None)
            self.totals[name] = float(read() if callable(read) else value)
        if self.active is None and self.files is not None:
            self.files.finish(weights=False)

    def keep_best(self, name: str, mode: str = "max") -> bool:
        """Keep the weights if the value logged as ``name`` in this epoch is the best so far.

        They go to ``best.safetensors``, and back into the model by ``load_best``. With an EMA they
        are the averaged ones.
        """
        if mode not in ("min", "max"):
            raise UsageError(f"mode is 'min' or 'max', got {mode!r}", slug="unknown-mode")
        loop = self.active
        value = None if loop is None else loop.latest(name)
        if loop is None or value is None:
            raise UsageError(
                f"keep_best({name!r}): nothing of that name was logged in this epoch",
                slug="unknown-value", where=user_line(), hint=f"step.log({name}=…) before it",
            )  # fmt: skip
        return self.best_weights.offer(name, value, mode, loop)

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load weights as ``weights()`` returned them into the models."""
        for key, module in self.models.items():
            prefix = f"{key}." if self._several_models else ""
            own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            module.load_state_dict(self.parts.parted(module, own))

    def load_best(self) -> bool:
        """Load the weights that ``keep_best`` kept into the models; False where there are none."""
        return self.best_weights.load()

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
        saved = self.saved_state()
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
            self.files.add_classification(self.parts.of_all(predictions.record()))

    def fire(
        self, moment: str, *, values: dict[str, Any] | None = None, epoch: int | None = None
    ) -> None:
        """Call who listens to a moment."""
        if not self.moments.wanted(moment):
            return
        loop = self.active
        self.moments.fire(
            Event(
                moment, self, None if loop is None else loop.current,
                0 if loop is None else loop.turn,
                epoch if epoch is not None else (0 if loop is None else loop.epoch),
                values or {},
            )
        )  # fmt: skip

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is left to write and give everything back; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.transfer.rows.forget()
        if self._compiled:
            for module in self.models.values():
                module._compiled_call_impl = None
        self._give_back_deterministic()
        self.fire("close")
        if self.files is not None:
            self.files.close()
        if self.deferred is not None:
            error, self.deferred = self.deferred, None
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.lifecycle.left(error)
        self.close()

    def _repr_html_(self) -> str:
        return self.history.shown(f"{self.name}: {self.outcome.kind}")

    def __repr__(self) -> str:
        where = f" in {self.folder}" if self.folder is not None else ""
        return f"<Run {self.name!r}{where}: {self.outcome.kind}>"

    # -- inside --------------------------------------------------------------------------------

    def _open_folder(self, folder: Path, resume: str, allowed: tuple[str, ...]) -> RunFolder:
        try:
            files = self.parts.folder(self, folder, resume, allowed)
            runs.close_older(folder)
            files.open()
        except BaseException:  # of any kind: the process's settings are the user's again
            self._give_back_deterministic()
            raise
        return files

    def _give_back_deterministic(self) -> None:
        if self._deterministic_before is not None:
            torch.use_deterministic_algorithms(self._deterministic_before)

    def check_open(self) -> None:
        """Refuse to go on with a closed run, or after an end that could not be written."""
        if self.deferred is not None:
            error, self.deferred = self.deferred, None
            raise error
        if self.closed:
            raise UsageError(
                "this run is closed", slug="run-closed", where=user_line(),
                hint="a newer lw.Run on the same folder closes the older one",
            )  # fmt: skip

    def _after_step(self, windows: Sequence[Window], metric: Any) -> None:
        for window in windows:
            schedule = self.schedules.get(window.name)
            if schedule is not None and schedule.kind == "update":
                schedule.step(metric)
        self.averaging.is_due()
        if not self._uncovered_checked:
            self._uncovered_checked = True
            prepare.warn_about_uncovered(self.optimizers, self.models)

    def weights(self, *, averaged: bool) -> dict[str, torch.Tensor]:
        """Return copies of all weights, with the model's name in front where there are several."""
        with self.averaged() if averaged else nullcontext():
            return {
                (f"{key}.{name}" if self._several_models else name): value.detach().clone()
                for key, module in self.models.items()
                for name, value in self.parts.whole(module.state_dict()).items()
                if isinstance(value, torch.Tensor)
            }

    def saved_state(self) -> dict[str, Any] | None:
        """Return the newest checkpoint's state as it was when this process came, if there was one."""
        if self._saved is None and self.files is not None and not self._looked:
            self._looked = True
            self._saved = saving.checked(self.files.newest(), self.files.path)
        return self._saved

    def line(self, text: str) -> None:
        """Tell the user something, where progress is shown."""
        telling.say(self, text)
