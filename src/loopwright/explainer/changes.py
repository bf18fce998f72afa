"""The one thing that is other while a step is run again: each is a context that puts everything back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from loopwright.explainer.replay import Beginning


@contextmanager
def without_zero_grad(owners: list[Any]) -> Iterator[None]:
    """Optimizers and modules whose ``zero_grad`` does nothing."""
    for owner in owners:
        vars(owner)["zero_grad"] = lambda *_, **__: None
    try:
        yield
    finally:
        for owner in owners:
            vars(owner).pop("zero_grad", None)


@contextmanager
def other_rate(factor: float, optimizers: list[Any]) -> Iterator[list[float]]:
    """Steps with another learning rate, whoever sets it before; the rates that they would have had.

    An optimizer may wrap another one with the same groups and call its step: a rate is changed once.
    """
    rates: list[float] = []
    changing: set[int] = set()
    kept = [(one, vars(one).get("step")) for one in optimizers]

    def changed(optimizer: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)  # schedulers look for an attribute of theirs
        def scaled(*args: Any, **kwargs: Any) -> Any:
            groups = [one for one in optimizer.param_groups if id(one) not in changing]
            inside = {id(one) for one in groups}
            before = [group["lr"] for group in groups]
            rates.extend(float(rate) for rate in before)
            changing.update(inside)
            try:
                for group in groups:
                    group["lr"] = group["lr"] * factor
                return step(*args, **kwargs)
            finally:
                for group, rate in zip(groups, before, strict=True):
                    group["lr"] = rate
                changing.difference_update(inside)

        return scaled

    for one in optimizers:
        vars(one)["step"] = changed(one, one.step)
    try:
        yield rates
    finally:
        for one, step in kept:
            if step is None:
                vars(one).pop("step", None)
            else:
                vars(one)["step"] = step


class other_reduction:  # noqa: N801  a context
    """Every criterion, and the function itself, reduce in another way."""

    def __init__(self, how: str, function: str, one: Beginning):
        self.how, self.function = how, function
        places = [*one.space.values(), *list(one.globals.values()), *one.modules]
        owners: list[Any] = []
        for value in places:
            inner = getattr(value, "__dict__", {})
            owners += [value, *(inner.values() if isinstance(inner, dict) else ())]
        self.found = [o for o in owners if isinstance(o, torch.nn.modules.loss._Loss)]
        self.kept: list[tuple[Any, str]] = []
        self.original: Callable[..., Any] = getattr(torch.nn.functional, function)

    def __enter__(self) -> None:
        self.kept = [(one, one.reduction) for one in self.found]
        for one in self.found:
            one.reduction = self.how
        original, how = self.original, self.how

        def changed(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **{**kwargs, "reduction": how})

        setattr(torch.nn.functional, self.function, changed)

    def __exit__(self, *_: object) -> None:
        setattr(torch.nn.functional, self.function, self.original)
        for one, reduction in self.kept:
            one.reduction = reduction
