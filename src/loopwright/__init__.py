"""Loopwright trains PyTorch models with the loop still visible.

``import loopwright as lw`` imports no torch; each public name is imported when it is first used.
The names, by what they are for: ``Run``, ``fit`` (train); ``Mean``, ``Accuracy``, ``metric``,
``Predictions`` (measure); ``per_update``, ``warmup_cosine``, ``EMA`` (schedule and average);
``load_weights``, ``freeze``, ``parameter_groups`` (fine-tune); ``recipe``, ``Job`` (command line); ``watch``,
``check`` (find silent mistakes); ``explain`` (see what each line does).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.checker.watching import check as check
    from loopwright.checker.watching import watch as watch
    from loopwright.errors import CheckpointError as CheckpointError
    from loopwright.errors import DataError as DataError
    from loopwright.errors import DiskError as DiskError
    from loopwright.errors import LoopwrightError as LoopwrightError
    from loopwright.errors import LoopwrightWarning as LoopwrightWarning
    from loopwright.errors import NonFiniteError as NonFiniteError
    from loopwright.errors import StateError as StateError
    from loopwright.errors import UsageError as UsageError
    from loopwright.explainer.here import Explanation as Explanation
    from loopwright.explainer.here import explain as explain
    from loopwright.recipes.recipe import Job as Job
    from loopwright.recipes.recipe import recipe as recipe
    from loopwright.train.callbacks import early_stopping as early_stopping
    from loopwright.train.data.datasets import class_weights as class_weights
    from loopwright.train.data.datasets import split as split
    from loopwright.train.fit import fit as fit
    from loopwright.train.loop import Loop as Loop
    from loopwright.train.measure.batch_size import find_batch_size as find_batch_size
    from loopwright.train.measure.lr_range import lr_range_test as lr_range_test
    from loopwright.train.measure.profiling import profile as profile
    from loopwright.train.measure.throughput import throughput as throughput
    from loopwright.train.metrics.meters import Accuracy as Accuracy
    from loopwright.train.metrics.meters import Mean as Mean
    from loopwright.train.metrics.meters import Sum as Sum
    from loopwright.train.metrics.named import metric as metric
    from loopwright.train.metrics.predictions import Predictions as Predictions
    from loopwright.train.models.activation import checkpoint_activations as checkpoint_activations
    from loopwright.train.models.ema import EMA as EMA
    from loopwright.train.models.parameters import freeze as freeze
    from loopwright.train.models.parameters import parameter_groups as parameter_groups
    from loopwright.train.models.summary import summary as summary
    from loopwright.train.models.weights import load_weights as load_weights
    from loopwright.train.process.randomness import seed as seed
    from loopwright.train.run import Run as Run
    from loopwright.train.state.policy import Checkpoint as Checkpoint
    from loopwright.train.step import Step as Step
    from loopwright.train.update.schedules import on_metric as on_metric
    from loopwright.train.update.schedules import per_epoch as per_epoch
    from loopwright.train.update.schedules import per_update as per_update
    from loopwright.train.update.schedules import warmup_constant as warmup_constant
    from loopwright.train.update.schedules import warmup_cosine as warmup_cosine
    from loopwright.train.update.schedules import warmup_linear as warmup_linear

__version__ = "0.1.0"

_NAMES = {
    "checker.watching": ("check", "watch"),
    "errors": (
        "CheckpointError",
        "DataError",
        "DiskError",
        "LoopwrightError",
        "LoopwrightWarning",
        "NonFiniteError",
        "StateError",
        "UsageError",
    ),
    "explainer.here": ("Explanation", "explain"),
    "recipes.recipe": ("Job", "recipe"),
    "train.callbacks": ("early_stopping",),
    "train.data.datasets": ("class_weights", "split"),
    "train.fit": ("fit",),
    "train.loop": ("Loop",),
    "train.measure.batch_size": ("find_batch_size",),
    "train.measure.lr_range": ("lr_range_test",),
    "train.measure.profiling": ("profile",),
    "train.measure.throughput": ("throughput",),
    "train.metrics.meters": ("Accuracy", "Mean", "Sum"),
    "train.metrics.named": ("metric",),
    "train.metrics.predictions": ("Predictions",),
    "train.models.activation": ("checkpoint_activations",),
    "train.models.ema": ("EMA",),
    "train.models.parameters": ("freeze", "parameter_groups"),
    "train.models.summary": ("summary",),
    "train.models.weights": ("load_weights",),
    "train.process.randomness": ("seed",),
    "train.run": ("Run",),
    "train.state.policy": ("Checkpoint",),
    "train.step": ("Step",),
    "train.update.schedules": (
        "on_metric",
        "per_epoch",
        "per_update",
        "warmup_constant",
        "warmup_cosine",
        "warmup_linear",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  one list of names, above


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext loopwright``: gives a notebook ``%%explain``."""
    from loopwright.explainer.here import load_ipython_extension as load

    load(shell)


def __dir__() -> list[str]:
    """Name what is public, imported yet or not."""
    return [*__all__, "__version__"]
