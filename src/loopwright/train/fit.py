"""``lw.fit``: the visible loop in one call."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from loopwright.errors import UsageError
from loopwright.train.callbacks import early_stopping
from loopwright.train.callsite import place_of
from loopwright.train.display import telling
from loopwright.train.metrics.meters import Mean
from loopwright.train.metrics.named import MetricSet
from loopwright.train.metrics.predictions import Predictions
from loopwright.train.process import randomness
from loopwright.train.run import Run
from loopwright.train.step import Step
from loopwright.train.update.loss import check_loss


def fit(
    model: nn.Module,
    optimizer: Any,
    criterion: Callable[..., Tensor] | None,
    train_loader: Any,
    valid_loader: Any = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    samples: int | None = None,
    tokens: int | None = None,
    metrics: Sequence[Any] | Mapping[str, Any] | str = (),
    test_loader: Any = None,
    compute_loss: Callable[[Any, Any], Any] | None = None,
    weight: Callable[[Any], Any] | None = None,
    classes: Sequence[str] | None = None,
    keep_best: tuple[str, str] | None = None,
    patience: int | None = None,
    evaluate_every: int | None = None,
    capture: str | None = None,
    finish: Callable[[Run], str | None] | None = None,
    out: Any = None,
    **settings: Any,
) -> Run:
    """Train ``model``, validate at each epoch's end, test once at the very end; returns the run.

    The body is the loop that you would write::

        for step in run.loop(train_loader, epochs=epochs):
            inputs, target = step.batch
            step.backward(criterion(run.model(inputs), target))
            step.update()
            if step.ends_epoch:
                ...  # run.evaluate(valid_loader), step.log(...)

    Args:
        model: a module.
        optimizer: an optimizer, or a function ``params -> Optimizer``.
        criterion: ``criterion(outputs, target)`` is the mean loss of a batch ``(inputs, target)``.
        train_loader: see ``Run.loop``.
        valid_loader: evaluated at each epoch's end.
        epochs: how long; one of this and the next four, see ``Run.loop``.
        steps: turns.
        minutes: of wall-clock time.
        samples: trained on.
        tokens: trained on.
        metrics: names (``"accuracy"``, ``"f1"``), objects with update/compute/reset, or a dict.
        test_loader: evaluated once at the end, with the best weights where ``keep_best`` is given.
        compute_loss: ``compute_loss(model, batch)`` returns the loss, or ``(loss, outputs, target)``;
            for batches and models of another shape.
        weight: ``weight(batch)`` says what a batch's loss is the mean of, e.g. its tokens.
        classes: names of a classifier's outputs; with integer targets the report then shows a
            confusion matrix and the worst samples.
        keep_best: ``("valid_accuracy", "max")``: which epoch's weights go to ``best.safetensors``.
        patience: stop when ``keep_best``'s value (or ``valid_loss``) has not improved for so many
            epochs.
        evaluate_every: validate also every so many turns.
        capture: ``"exact"`` records the whole step once and replays it without Python, with the same
            bits (see ``Run.compile_step``); where it cannot, the run's notes say why. ``"fast"``
            compiles it, and computes in fp32 what is slower in bf16, where that pays; the numbers then
            differ by rounding.
        finish: called with the run at the end; the text it returns is shown in the report.
        out: the run's folder.
        **settings: every other keyword of ``Run``.

    Raises:
        UsageError: a setting that cannot be.

    Example:
        >>> import torch, loopwright as lw
        >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
        >>> model = torch.nn.Linear(3, 1)
        >>> run = lw.fit(
        ...     model,
        ...     torch.optim.SGD(model.parameters(), lr=0.1),
        ...     torch.nn.MSELoss(),
        ...     [(x, y)],
        ...     epochs=2,
        ...     progress=False,
        ... )
        >>> run.totals["turns"]
        2
    """
    if criterion is None and compute_loss is None:
        raise UsageError("fit needs a criterion or compute_loss", slug="no-loss")
    _check_settings(settings)
    if keep_best is not None:
        _check_keep_best(keep_best, valid_loader)
    if capture not in (None, "exact", "fast"):
        raise UsageError(
            f"capture is 'exact', 'fast' or None, got {capture!r}", slug="unknown-capture"
        )
    for loader in (valid_loader, test_loader):
        if getattr(loader, "num_workers", 0):
            from loopwright.train.data.travel import check

            check(loader)
    if patience is not None:
        name, mode = keep_best or ("valid_loss", "min")
        if valid_loader is None and name.startswith("valid_"):
            raise UsageError(
                "patience needs validation data", slug="no-validation", hint="valid_loader=…"
            )
        settings["callbacks"] = [
            *settings.get("callbacks", ()), early_stopping(name, patience=patience, mode=mode)
        ]  # fmt: skip
    with Run(out, model=model, optimizer=optimizer, **settings) as run:
        trial = _Trial(run, criterion, compute_loss, weight, metrics, classes)
        captured = None
        if capture is not None:
            captured = run.compile_step(trial.loss_and_weight, mode=capture)
        train = trial.turn if captured is None else captured
        loop = run.loop(
            train_loader,
            epochs=epochs, steps=steps, minutes=minutes, samples=samples, tokens=tokens,
        )  # fmt: skip
        if captured is not None:
            loop.ahead = captured.stretches(evaluate_every)
        for step in loop:
            train(step)
            if step.index == 0 and run.folder is not None:
                trial.summarise(step.batch)
            due = evaluate_every is not None and (step.index + 1) % evaluate_every == 0
            if valid_loader is not None and (step.ends_epoch or step.ends_run or due):
                step.log(**trial.evaluate(valid_loader, "valid"))
                if keep_best is not None:
                    run.keep_best(*keep_best)
        if not run.concluded:
            _conclude(run, trial, valid_loader, test_loader, keep_best, finish)
    return run


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse a keyword that is neither fit's nor Run's, and name the nearest."""
    known = [name for one in (fit, Run) for name in inspect.signature(one).parameters]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"lw.fit takes no {name!r}", slug="unknown-argument",
                hint=f"did you mean {near[0]}=?" if near else None,
            )  # fmt: skip


def _check_keep_best(keep_best: Any, valid_loader: Any) -> None:
    if isinstance(keep_best, str) or len(keep_best) != 2 or keep_best[1] not in ("min", "max"):
        name = keep_best if isinstance(keep_best, str) else next(iter(keep_best), "valid_loss")
        raise UsageError(
            f"keep_best is a value's name and whether small or large is good, got {keep_best!r}",
            slug="unknown-mode", hint=f'keep_best=("{name}", "min"), or "max"',
        )  # fmt: skip
    if valid_loader is None:
        raise UsageError(
            f"keep_best={keep_best!r} needs validation data",
            slug="no-validation", hint="valid_loader=…",
        )  # fmt: skip


def _conclude(
    run: Run, trial: _Trial, valid_loader: Any, test_loader: Any, keep_best: Any, finish: Any
) -> None:
    """Show predictions, touch the test data once, and let the recipe have its last word.

    With ``keep_best`` all of it is done with the best weights; the final ones are put back.
    """
    final = run.weights(averaged=False) if keep_best is not None else None
    if final is not None:
        run.load_best()
    try:
        with run.averaging.off() if final is not None else nullcontext():
            if trial.classifies and valid_loader is not None:
                trial.evaluate(valid_loader, "valid", show=True)
            if test_loader is not None:
                results = trial.evaluate(test_loader, "test", show=trial.classifies)
                run.log(**results)
                telling.tested(run, results, best=final is not None)
            if finish is not None and (text := finish(run)):
                run.samples.append(text)
    finally:
        if final is not None:
            run.load_weights(final)
    run.concluded = True
    run.finish()


class _Trial:
    """How a batch becomes a loss and metrics."""

    def __init__(
        self, run: Run, criterion: Any, compute_loss: Any, weight: Any, metrics: Any, classes: Any
    ):
        self.run = run
        self.criterion = criterion
        self.compute_loss = compute_loss
        self.count = weight
        self.metrics = MetricSet(metrics)
        self.classes = classes
        self.classifies = classes is not None
        made = criterion if compute_loss is None else compute_loss
        code = getattr(made, "__code__", None)
        self.gave = (
            "the loss of " + ("the criterion" if compute_loss is None else "compute_loss"),
            None if code is None else (code, 0),
        )
        """What gives the loss, and where it is written."""

    def loss(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """Return loss, outputs and target; the latter two are None where only a loss is known."""
        if self.compute_loss is not None:
            result = self.compute_loss(self.run.model, batch)
            if not isinstance(result, tuple):
                return result, None, None
            if len(result) != 3:
                raise UsageError(
                    f"compute_loss returned {len(result)} values; it returns the loss, or (loss, "
                    "outputs, target)",
                    slug="compute-loss", where=place_of(self.compute_loss),
                )  # fmt: skip
            return result
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise UsageError(
                f"a batch of (inputs, target) is expected, got {_shape(batch)}",
                slug="batch-shape",
                hint="compute_loss=lambda model, batch: … for other batches",
            )
        inputs, target = batch
        outputs = self.run.model(inputs)
        return self.criterion(outputs, target), outputs, target

    def loss_and_weight(self, batch: Any) -> tuple[Tensor, Any]:
        """Return a batch's loss and what it is the mean of."""
        loss = self.loss(batch)[0]
        check_loss(loss, *self.gave)
        return loss, self.weight(batch)

    def turn(self, step: Step) -> None:
        """Train on one batch."""
        loss, weight = self.loss_and_weight(step.batch)
        step.backward(loss, weight)
        step.update()

    def weight(self, batch: Any) -> Any:
        """Return what the batch's loss is the mean of; None for its samples."""
        return None if self.count is None else self.count(batch)

    def evaluate(self, loader: Any, split: str, *, show: bool = False) -> dict[str, float]:
        """Return the means over a data set, with the split's name in front."""
        from loopwright.train.data.batches import count_samples

        mean = Mean()
        self.metrics.reset()
        shown = Predictions(self.classes, split=split) if show else None
        for batch in self.run.evaluate(loader):
            loss, outputs, target = self.loss(batch)
            weight = self.weight(batch)
            mean.update(loss.detach(), weight if weight is not None else count_samples(batch) or 1)
            if outputs is not None:
                target = self._classes(outputs, target)
                self.metrics.update(outputs, target)
                if shown is not None:
                    inputs = batch[0] if isinstance(batch, (tuple, list)) else None
                    shown.update(outputs, target, inputs)
        if shown is not None:
            self.run.add_to_report(shown)
        results = {"loss": mean.compute(), **self.metrics.compute()}
        return {f"{split}_{name}": value for name, value in results.items()}

    def _classes(self, outputs: Any, target: Any) -> Any:
        """Return the likeliest classes of a target of probabilities (one-hot, smoothed, mixed ones)."""
        takes = isinstance(self.criterion, nn.CrossEntropyLoss) or self.criterion is cross_entropy
        if takes and isinstance(target, Tensor) and target.is_floating_point():
            return target.argmax(1 if outputs.ndim > 1 else 0)
        return target

    def summarise(self, batch: Any) -> None:
        """Put the model's summary with output shapes into the run's folder."""
        if self.compute_loss is not None or not isinstance(batch, (tuple, list)):
            return
        from loopwright.train.models.summary import summary

        with randomness.fork(self.run.device), torch.no_grad():
            found = summary(self.run.model, batch[0][:1])
        if self.run.files is not None:
            self.run.files.write_summary(found)


def _shape(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"a tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, (tuple, list)):
        return f"{len(batch)} parts"
    return type(batch).__name__
