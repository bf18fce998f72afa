"""How often a learning-rate scheduler is stepped, said where it is given to a run.

torch's schedulers do not say whether they count updates or epochs, and the wrong one trains on
silently. So a run takes a scheduler with its unit::

    lw.Run(..., scheduler=lw.per_epoch(torch.optim.lr_scheduler.StepLR(optimizer, 30)))
    lw.Run(..., scheduler=lw.on_metric(ReduceLROnPlateau(optimizer), "valid_loss"))
    lw.Run(..., scheduler=lw.warmup_cosine())  # per update; the length comes from the loop

and refuses one without, except ``OneCycleLR``, which can only count updates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from loopwright.errors import UsageError
from loopwright.train.update.warmup import Warmup, warmup_constant, warmup_cosine, warmup_linear

__all__ = [
    "Schedule",
    "Warmup",
    "on_metric",
    "per_epoch",
    "per_update",
    "resolve",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
]

Kind = Literal["update", "epoch", "metric"]


@dataclass(slots=True)
class Schedule:
    """A scheduler and the moment of its step.

    Attributes:
        kind: stepped after every ``"update"``, after every ``"epoch"``, or when ``"metric"`` is known.
        scheduler: a torch scheduler; before ``bind`` also a function ``optimizer -> scheduler``, a
            function ``(optimizer, total) -> scheduler``, or a ``Warmup``.
        metric: for kind ``"metric"``, the name under which the value is logged.
    """

    kind: Kind
    scheduler: Any
    metric: str | None = None

    @property
    def bound(self) -> bool:
        """Whether ``scheduler`` is a real one, with ``step`` and ``state_dict``."""
        return _is_scheduler(self.scheduler)

    @property
    def needs_length(self) -> bool:
        """Whether ``bind`` needs to know how many updates (or epochs) there will be."""
        return not self.bound and (
            self.scheduler.needs_length
            if isinstance(self.scheduler, Warmup)
            else _wants_total(self.scheduler)
        )

    def bind(
        self, optimizer: Optimizer, updates: int | None = None, epochs: int | None = None
    ) -> Schedule:
        """Make the scheduler for ``optimizer``, or check that it is that optimizer's; returns self.

        Args:
            optimizer: the run's own.
            updates: optimizer updates of the whole loop, None where that is not known.
            epochs: epochs of the whole loop, None where that is not known.

        Raises:
            UsageError: the scheduler belongs to another optimizer, needs a length that is not known,
                or cannot be stepped as this schedule says.
        """
        total = epochs if self.kind == "epoch" else updates
        if not self.bound:
            if total is None and self.needs_length:
                unit = "epochs" if self.kind == "epoch" else "updates"
                raise UsageError(
                    f"the number of {unit} is not known beforehand, and {_name(self.scheduler)} "
                    "is shaped by it.",
                    slug="schedule-length",
                    hint="say epochs= (with a loader that has a length) or steps=, or use "
                    "warmup_constant(500)",
                )
            self.scheduler = _build(self.scheduler, optimizer, total)
        owner = getattr(self.scheduler, "optimizer", optimizer)
        if owner is not optimizer:
            raise UsageError(
                f"{_name(self.scheduler)} was made for another optimizer than the run's, so it would "
                "change no learning rate here.",
                slug="schedule-optimizer",
                hint=f"give a function: scheduler={_wrapper(self.kind)}"
                f"(lambda optimizer: {_name(self.scheduler)}(optimizer, ...))",
            )
        _check_kind(self.kind, self.scheduler)
        return self

    def step(self, metric: float | None = None) -> None:
        """Step once; ``metric`` goes to a scheduler that looks at one.

        Raises:
            UsageError: the scheduler looks at a metric and none was given.
        """
        if not isinstance(self.scheduler, ReduceLROnPlateau) and self.kind != "metric":
            self.scheduler.step()
            return
        if metric is None:
            raise UsageError(
                f"{_name(self.scheduler)} steps on a metric, and none was given.",
                slug="schedule-metric",
                hint="write step.update(metric=value), or "
                'scheduler=lw.on_metric(scheduler, "valid_loss")',
            )
        self.scheduler.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's own state; empty before ``bind``."""
        return self.scheduler.state_dict() if self.bound else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the scheduler's own state (the learning rates are part of the optimizer's)."""
        if state:
            self.scheduler.load_state_dict(state)


def per_update(scheduler: Any) -> Schedule:
    """Step ``scheduler`` after every update of the optimizer (not after every micro-batch).

    Args:
        scheduler: a torch scheduler, a function ``optimizer -> scheduler``, or a function
            ``(optimizer, total) -> scheduler`` that is given the number of updates of the loop.

    >>> import torch
    >>> from torch.optim.lr_scheduler import CosineAnnealingLR
    >>> per_update(lambda optimizer, total: CosineAnnealingLR(optimizer, total)).kind
    'update'
    """
    return _wrap("update", scheduler)


def per_epoch(scheduler: Any) -> Schedule:
    """Step ``scheduler`` at the end of every epoch.

    Args:
        scheduler: as for ``per_update``; ``total`` is then the number of epochs.

    >>> from torch.optim.lr_scheduler import StepLR
    >>> per_epoch(lambda optimizer: StepLR(optimizer, step_size=30)).kind
    'epoch'
    """
    return _wrap("epoch", scheduler)


def on_metric(scheduler: Any, name: str) -> Schedule:
    """Step ``scheduler`` with the value that is logged as ``name``, whenever it is.

    Args:
        scheduler: a ``ReduceLROnPlateau`` (anything whose ``step`` takes a metric), or a function
            ``optimizer -> scheduler``.
        name: such as ``"valid_loss"``.

    >>> from torch.optim.lr_scheduler import ReduceLROnPlateau
    >>> on_metric(lambda optimizer: ReduceLROnPlateau(optimizer), "valid_loss").metric
    'valid_loss'
    """
    schedule = _wrap("metric", scheduler)
    schedule.metric = name
    return schedule


def resolve(scheduler: Any, optimizer: Optimizer) -> Schedule | None:
    """Return what ``scheduler`` means for ``optimizer``; None stays None.

    What needs no length is bound at once, so that a mistake is an error before the first step; the
    rest waits for ``Schedule.bind``.

    Args:
        scheduler: the ``scheduler=`` of a run: a ``Schedule``, a ``Warmup``, a torch scheduler that
            can be stepped in one way only, or a function ``optimizer -> scheduler``.
        optimizer: the run's own.

    Raises:
        UsageError: it is not said how often to step, or the scheduler cannot be used so.
    """
    if scheduler is None:
        return None
    if isinstance(scheduler, Schedule):
        schedule = Schedule(scheduler.kind, scheduler.scheduler, scheduler.metric)
    elif isinstance(scheduler, Warmup):
        schedule = Schedule("update", scheduler)
    else:
        schedule = _bare(scheduler, optimizer)
    return schedule if schedule.needs_length else schedule.bind(optimizer)


def _bare(scheduler: Any, optimizer: Optimizer) -> Schedule:
    """Find out how often a scheduler that came without a wrapper is stepped."""
    if not _is_scheduler(scheduler):
        if not callable(scheduler):
            raise UsageError(
                f"scheduler is {scheduler!r}; wanted is a torch scheduler, a function "
                "optimizer -> scheduler, or lw.warmup_cosine().",
                slug="schedule-type",
            )
        if _wants_total(scheduler):
            raise _unit_missing("a function (optimizer, total) -> scheduler", "...")
        made = _build(scheduler, optimizer, None)
        if isinstance(made, Schedule):
            return made
        scheduler = made
    if isinstance(scheduler, OneCycleLR):
        return Schedule("update", scheduler)
    name = _name(scheduler)
    if isinstance(scheduler, ReduceLROnPlateau):
        raise UsageError(
            "ReduceLROnPlateau looks at a metric, and it is not said which.",
            slug="schedule-metric",
            hint='write scheduler=lw.on_metric(scheduler, "valid_loss"), or '
            "lw.per_update(scheduler) and step.update(metric=value)",
        )
    raise _unit_missing(name, name)


def _unit_missing(what: str, name: str) -> UsageError:
    return UsageError(
        f"{what} does not say whether it counts updates or epochs, and the wrong one trains on "
        "silently.",
        slug="schedule-unit",
        hint=f"write scheduler=lw.per_epoch({name}(...)) or scheduler=lw.per_update({name}(...))",
    )


def _wrap(kind: Kind, scheduler: Any) -> Schedule:
    if isinstance(scheduler, Schedule):
        raise UsageError(
            f"this scheduler is already {_wrapper(scheduler.kind)}(...).", slug="schedule-unit"
        )
    if not (_is_scheduler(scheduler) or callable(scheduler) or isinstance(scheduler, Warmup)):
        raise UsageError(
            f"{_wrapper(kind)} got {scheduler!r}; wanted is a torch scheduler or a function "
            "optimizer -> scheduler.",
            slug="schedule-type",
        )
    if inspect.isclass(scheduler) and len(_required(scheduler)) > 1:
        raise UsageError(
            f"{scheduler.__name__} needs more than the optimizer: {', '.join(_required(scheduler))}.",
            slug="schedule-type",
            hint=f"write {_wrapper(kind)}(lambda optimizer: {scheduler.__name__}(optimizer, ...))",
        )
    if _is_scheduler(scheduler):
        _check_kind(kind, scheduler)
    if kind == "metric" and isinstance(scheduler, Warmup):
        raise UsageError("a warm-up looks at no metric.", slug="schedule-metric")
    return Schedule(kind, scheduler)


def _check_kind(kind: Kind, scheduler: Any) -> None:
    """Refuse a plateau scheduler per epoch, and a scheduler that would take a metric for an epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        if kind == "epoch":
            raise UsageError(
                "ReduceLROnPlateau looks at a metric; per_epoch has none to give.",
                slug="schedule-metric",
                hint='write scheduler=lw.on_metric(scheduler, "valid_loss")',
            )
    elif kind == "metric" and isinstance(scheduler, LRScheduler):
        first = next(iter(inspect.signature(scheduler.step).parameters), None)
        if first in (None, "epoch"):
            raise UsageError(
                f"{_name(scheduler)} looks at no metric: its step() would take the value for an "
                "epoch.",
                slug="schedule-metric",
                hint=f"write lw.per_epoch({_name(scheduler)}(...))",
            )


def _build(scheduler: Any, optimizer: Optimizer, total: int | None) -> Any:
    if isinstance(scheduler, Warmup):
        return scheduler.build(optimizer, total)
    made = scheduler(optimizer, total) if _wants_total(scheduler) else scheduler(optimizer)
    if isinstance(made, Warmup):
        return made.build(optimizer, total)
    if not _is_scheduler(made) and not isinstance(made, Schedule):
        raise UsageError(
            f"{_name(scheduler)}(optimizer) returned {made!r}, which is no scheduler.",
            slug="schedule-type",
            hint="return the scheduler from the function",
        )
    return made


def _is_scheduler(value: Any) -> bool:
    return hasattr(value, "step") and not inspect.isclass(value) and not isinstance(value, Schedule)


def _wants_total(function: Callable[..., Any]) -> bool:
    return len(_required(function)) > 1


def _required(function: Callable[..., Any]) -> list[str]:
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def _wrapper(kind: Kind) -> str:
    return {"update": "lw.per_update", "epoch": "lw.per_epoch", "metric": "lw.on_metric"}[kind]


def _name(scheduler: Any) -> str:
    return getattr(scheduler, "__name__", type(scheduler).__name__)
