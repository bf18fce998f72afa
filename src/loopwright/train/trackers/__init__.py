"""Sending what a run logs to TensorBoard, Weights & Biases, MLflow or trackio.

``lw.Run(..., log="tensorboard")``, on the command line ``--log tensorboard``. A tracker is a function that
is called with the run and registers what it wants; one of your own goes into the same list. Settings
are given by ``functools.partial``::

    from loopwright.train.trackers.wandb import wandb

    lw.Run(..., log=[partial(wandb, project="digits")])
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from loopwright.errors import UsageError

__all__ = ["NAMES", "resolve", "resolve_all"]

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")
"""What ``log=`` knows by name; each is also the name of an extra and of the package behind it."""


def resolve_all(log: Sequence[Any] | str) -> list[Callable[[Any], Any]]:
    """Return the functions that ``log=`` asks for: one name, or several names and functions."""
    return [resolve(one) for one in ([log] if isinstance(log, str) else log)]


def resolve(tracker: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function that registers ``tracker`` with a run.

    Args:
        tracker: one of ``NAMES``, or already such a function.

    Raises:
        UsageError: an unknown name, or a package that is not installed.
    """
    if callable(tracker):
        return tracker
    if tracker not in NAMES:
        near = difflib.get_close_matches(str(tracker).lower(), NAMES, n=1)
        raise UsageError(
            f"there is no tracker named {tracker!r}; the names are {', '.join(NAMES)}.",
            slug="unknown-tracker",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    if importlib.util.find_spec(tracker) is None:
        raise UsageError(
            f"log={tracker!r} needs the package {tracker}, which is not installed.",
            slug="missing-extra",
            hint=f"pip install 'loopwright[{tracker}]'",
        )
    return getattr(importlib.import_module(f"{__name__}.{tracker}"), tracker)
