"""The one thing that is other while a step is run again: each is a context that puts everything back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from loopwright.explainer.again.replay import Beginning


class kept_gradients(TorchFunctionMode):  # noqa: N801  a context
    """Nothing lets go of ``.grad`` or sets it to 0: no ``zero_grad``, no ``p.grad = None``, no ``zero_``.

    Args:
        parameters: whose gradients are kept.
    """

    def __init__(self, parameters: list[torch.Tensor]):
        super().__init__()
        self.parameters = parameters
        self.known = {id(one) for one in parameters}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = getattr(func, "__name__", "")
        if name == "__set__" and getattr(func, "__self__", None) is torch.Tensor.grad:
            owner, value = args
            if id(owner) in self.known and owner.grad is not None and _is_nothing(value):
                return None
        if not (name.endswith("_") or name == "__setitem__") or not args:
            return func(*args, **(kwargs or {}))
        written = [one for one in _listed(args[0]) if self._is_grad(one)]
        before = [one.detach().clone() for one in written]
        result = func(*args, **(kwargs or {}))
        for one, was in zip(written, before, strict=True):
            if _is_nothing(one) and not _is_nothing(was):
                one.detach().copy_(was)
        return result

    def _is_grad(self, tensor: Any) -> bool:
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            return False
        at = tensor.data_ptr()
        grads = [p.grad for p in self.parameters if p.grad is not None]
        return any(one.layout == torch.strided and one.data_ptr() == at for one in grads)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_nothing(value: Any) -> bool:
    """None, or 0 everywhere."""
    return value is None or (
        isinstance(value, torch.Tensor) and not bool(value.detach().count_nonzero())
    )


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
    """Every criterion, and the functions themselves, reduce in another way."""

    def __init__(self, how: str, functions: set[str], one: Beginning):
        self.how = how
        places = [*one.space.values(), *list(one.globals.values()), *one.modules]
        owners: list[Any] = []
        for value in places:
            inner = getattr(value, "__dict__", {})
            owners += [value, *(inner.values() if isinstance(inner, dict) else ())]
        self.found = [o for o in owners if isinstance(o, torch.nn.modules.loss._Loss)]
        self.kept: list[tuple[Any, str]] = []
        self.originals = {name: getattr(torch.nn.functional, name) for name in functions}

    def __enter__(self) -> None:
        self.kept = [(one, one.reduction) for one in self.found]
        for one in self.found:
            one.reduction = self.how
        for name, original in self.originals.items():
            setattr(torch.nn.functional, name, self._changed(original))

    def _changed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **{**kwargs, "reduction": self.how})

        return changed

    def __exit__(self, *_: object) -> None:
        for name, original in self.originals.items():
            setattr(torch.nn.functional, name, original)
        for one, reduction in self.kept:
            one.reduction = reduction
