"""Metrics by name, and the set of metrics that ``fit`` feeds.

=====================  ==========================================================  ==============
name                   what it is                                                  needs
=====================  ==========================================================  ==============
``accuracy``           share of targets hit                                        nothing
``top5``, ``top3`` …   share of targets among the 5 (3, …) largest logits          nothing
``f1``                 F1 score, macro average, or of class 1 from one logit       ``metrics``
``precision``          the same of precision                                       ``metrics``
``recall``             the same of recall                                          ``metrics``
``confusion_matrix``   counts[target][predicted]                                   ``metrics``
``mae``                mean absolute error                                         ``metrics``
``rmse``               root of the mean squared error                              ``metrics``
``r2``                 coefficient of determination                                ``metrics``
``perplexity``         exp of the mean cross entropy                               ``metrics``
=====================  ==========================================================  ==============

``metrics`` is the extra: ``pip install 'loopwright[metrics]'`` (torchmetrics). Three sets can be named as
one: ``classification``, ``regression``, ``language``.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from loopwright.errors import UsageError
from loopwright.parallel import current
from loopwright.train.metrics.meters import Accuracy, Mean, Sum

__all__ = ["SETS", "Metric", "MetricSet", "metric"]

SETS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "precision", "recall"),
    "regression": ("mae", "rmse", "r2"),
    "language": ("perplexity", "accuracy"),
}
"""Names that stand for several metrics."""

_COUNTED = ("f1", "precision", "recall", "confusion_matrix")
_VALUED = ("mae", "rmse", "r2")
_NAMES = ("accuracy", "top5", *_COUNTED, *_VALUED, "perplexity")


@runtime_checkable
class Metric(Protocol):
    """Anything with torchmetrics' three words."""

    def update(self, outputs: Any, target: Any) -> None:
        """Add a batch."""

    def compute(self) -> Any:
        """Return the result so far."""

    def reset(self) -> None:
        """Forget everything that was added."""


def metric(name: str, **settings: Any) -> Metric:
    """Return the metric of that name (see the module's table).

    Args:
        name: such as ``"accuracy"`` or ``"top5"``.
        settings: of that metric: ``ignore_index`` (-100 by default) and ``threshold`` of those that
            count classes, ``classes`` and ``average`` of f1, precision and recall, ``normalize`` of the
            confusion matrix.

    >>> accuracy = metric("accuracy")
    >>> accuracy.update(torch.eye(3), torch.tensor([0, 1, 0]))
    >>> round(accuracy.compute(), 3)
    0.667

    Raises:
        UsageError: no such metric or setting, or torchmetrics is not installed.
    """
    make = _maker(name)
    try:
        return make(**settings)
    except TypeError as error:
        raise UsageError(f"metric({name!r}): {error}.", slug="metric-setting") from error


def _maker(name: str) -> Callable[..., Metric]:
    top = re.fullmatch(r"top[-_]?(\d+)(?:_accuracy)?", name)
    if top:
        return lambda ignore_index=-100: Accuracy(int(top[1]), ignore_index)
    if name == "accuracy":
        return lambda ignore_index=-100, threshold=0.0: Accuracy(1, ignore_index, threshold)
    if name not in _NAMES:
        near = difflib.get_close_matches(name, [*_NAMES, *SETS], n=1, cutoff=0.5)
        raise UsageError(
            f"there is no metric named {name!r}; the names are {', '.join(_NAMES)}.",
            slug="metric-name",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    if importlib.util.find_spec("torchmetrics") is None:
        raise UsageError(
            f"the metric {name!r} comes from torchmetrics, which is not installed.",
            slug="missing-extra",
            hint="pip install 'loopwright[metrics]'",
        )
    if name in _COUNTED:
        from loopwright.train.metrics.torchmetrics_classes import ClassMetric

        return lambda **settings: ClassMetric(name, **settings)
    from loopwright.train.metrics.torchmetrics_values import Perplexity, ValueMetric

    return Perplexity if name == "perplexity" else lambda: ValueMetric(name)


class MetricSet:
    """Several metrics that are fed the same batches.

    Args:
        metrics: names, objects with ``update(outputs, target)``, ``compute()`` and ``reset()``, or a
            dict from the name that is shown to either.

    >>> metrics = MetricSet(["accuracy", "top2"])
    >>> metrics.update(torch.eye(3), torch.tensor([0, 1, 0]))
    >>> {name: round(value, 3) for name, value in metrics.compute().items()}
    {'accuracy': 0.667, 'top2': 1.0}

    Raises:
        UsageError: an unknown name, two of one name, or an object that is no metric of two arguments.
    """

    def __init__(self, metrics: str | Metric | Iterable[Any] | Mapping[str, Any] = ()) -> None:
        named: Iterable[tuple[str | None, Any]]
        if isinstance(metrics, Mapping):
            named = metrics.items()
        elif isinstance(metrics, str | Metric):
            named = [(None, metrics)]
        else:
            named = [(None, each) for each in metrics]
        self._metrics: dict[str, Metric] = {}
        for name, given in named:
            for key, made in _expand(name, given):
                if key in self._metrics:
                    raise UsageError(
                        f"two metrics are named {key!r}.",
                        slug="metric-name",
                        hint='name them: metrics={"train_f1": ..., "macro_f1": ...}',
                    )
                self._metrics[key] = made
        self._updated = False

    @torch.no_grad()
    def update(self, outputs: Any, target: Any) -> None:
        """Feed a batch to every metric; ours read nothing back from the device.

        Autocast is off inside, so that losses and sums are formed in the precision they ask for.
        """
        if current.PADDING:
            return
        device = _device(outputs)
        if not self._updated:
            for each in self._metrics.values():
                if isinstance(each, nn.Module) and device is not None:
                    each.to(device)  # torchmetrics' states begin on the CPU
            self._updated = True
        kind = device.type if device is not None else "cpu"
        with torch.autocast(kind, enabled=False):
            for name, each in self._metrics.items():
                if not isinstance(outputs, Tensor) and _is_ours(each):
                    raise UsageError(
                        f"the metric {name!r} wants the model's outputs as one tensor; they are "
                        f"{type(outputs).__name__}.",
                        slug="metric-shape",
                        hint="give compute_loss=, a function that returns (loss, outputs, target)",
                    )
                each.update(outputs, target)

    def compute(self) -> dict[str, float]:
        """Return every single number (waits for the device); NaN where nothing was added.

        A metric that returns a dict gives ``name_key`` for each; what is larger than one number,
        such as a confusion matrix, is left to ``results()``.
        """
        if not self._updated:
            return {name: float("nan") for name in self._metrics}
        values: dict[str, float] = {}
        for name, result in self.results().items():
            parts = result.items() if isinstance(result, Mapping) else [("", result)]
            for key, part in parts:
                if not isinstance(part, Tensor) or part.numel() == 1:
                    values[f"{name}_{key}" if key else name] = float(part)
        return values

    def results(self) -> dict[str, Any]:
        """Return what every metric's own ``compute()`` returns, matrices included."""
        return {name: each.compute() for name, each in self._metrics.items()}

    def reset(self) -> None:
        """Forget everything that was added."""
        for each in self._metrics.values():
            each.reset()
        self._updated = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]


def _expand(name: str | None, given: Any) -> Iterator[tuple[str, Metric]]:
    """Yield what one entry stands for, with the names that are shown."""
    if isinstance(given, str):
        if given not in SETS:
            yield name or given, metric(given)
            return
        for each in SETS[given]:
            yield f"{name}_{each}" if name else each, metric(each)
        return
    if isinstance(given, Mean | Sum):
        raise UsageError(
            f"{type(given).__name__} takes values, not (outputs, target).",
            slug="metric-type",
            hint="write a loop with run.evaluate(loader), or an object whose update(outputs, target) "
            "does what you mean",
        )
    if not isinstance(given, Metric) or isinstance(given, type):
        raise UsageError(
            f"{given!r} is no metric: it needs update(outputs, target), compute() and reset().",
            slug="metric-type",
        )
    yield name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(given).__name__).lower(), given


def _is_ours(made: Metric) -> bool:
    return type(made).__module__.startswith("loopwright.")


def _device(outputs: Any) -> torch.device | None:
    """Return the device of the first tensor in ``outputs``."""
    if isinstance(outputs, Tensor):
        return outputs.device
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    if isinstance(outputs, Iterable) and not isinstance(outputs, str):
        return next((found for each in outputs if (found := _device(each)) is not None), None)
    return None
