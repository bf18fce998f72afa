"""The leaves of the gradient account: a ledger a watched parameter, a deposit a backward pass."""

from __future__ import annotations

import weakref

import torch

from loopwright.observe import content
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
