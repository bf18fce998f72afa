"""The leaves of the gradient account: a ledger a watched parameter, a deposit a backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch

from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.sites import Site

Tag = tuple[int, int] | None


class Deposit:
    """What one backward pass left in the gradients."""

    __slots__ = ("consumers", "left_over", "number", "scaled", "site")

    def __init__(self, site: Site, number: int, *, scaled: bool):
        self.site, self.number, self.scaled = site, number, scaled
        self.consumers: tuple[int, ...] = ()
        self.left_over = False
        """It was still waiting for a step when the loader was exhausted."""


class Ledger:
    """One watched parameter of one optimizer."""

    __slots__ = ("deposits", "ref", "tag", "values", "version", "zeroed")

    def __init__(self, parameter: torch.Tensor):
        self.ref = weakref.ref(parameter)
        self.tag: Tag = tag_of(parameter.grad)
        self.deposits: list[Deposit] = []
        self.version = 0
        """The parameter's version when the last deposit was made."""
        self.values: torch.Tensor | None = None
        """Some of its values then, where a deposit was thrown away before: did somebody move it since?"""
        self.zeroed = False
        """Cleared by writing zeros, nothing added since."""

    def moved(self) -> bool:
        """True when the parameter was written to since the last deposit, as far as can be seen."""
        parameter = self.ref()
        if parameter is None or parameter._version != self.version:
            return True
        return self.values is not None and not content.same(
            self.values, content.sample(parameter, 8)
        )


def tag_of(grad: torch.Tensor | None) -> Tag:
    """Identity and version of a gradient: equal tags mean that nobody wrote to it (by a counted way)."""
    return None if grad is None else (id(grad), grad._version)


def with_gradient(parameters: Iterable[torch.Tensor]) -> set[int]:
    """Parameters that have one now, other than zeros."""
    return {
        id(one) for one in parameters if one.grad is not None and not content.all_zero(one.grad)
    }


def part_of(earlier: torch.Tensor, root: torch.Tensor) -> bool:
    """True when a loss was put together from another one, a few operations ago."""
    return earlier.grad_fn is not None and earlier.grad_fn in set(graph.nodes(root.grad_fn, 32))


def norms(parameters: list[torch.Tensor], copied: list[torch.Tensor]) -> dict[str, float]:
    """The norm of the gradients now, and of what was added since they were copied."""
    pairs = [(p.grad, old) for p, old in zip(parameters, copied, strict=True)]
    pairs = [(new, old) for new, old in pairs if new is not None and new.shape == old.shape]
    with content.quiet():
        own = content.norm([new - old for new, old in pairs if new is not None])
    return {"norm": content.norm([new for new, _ in pairs if new is not None]), "own norm": own}


def limit_of(event: Event) -> Any:
    """What a clipping clips to."""
    if len(event.args) > 1:
        return event.args[1]
    return event.kwargs.get("max_norm", event.kwargs.get("clip_value"))
