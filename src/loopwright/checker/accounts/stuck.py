"""Two factors that begin as zeros: each one's gradient is multiplied by the other, so neither ever moves.

One factor of zeros is how an adapter begins without changing anything. With both, the gradients are exactly
zero at every step. Looked at in the steps number 1, 2, 4, 8, ...
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch

from loopwright.checker.accounts.optimizers import Entry, Optimizers
from loopwright.checker.accounts.parameters import Parameters
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site

MOST = 1024
"""Parameters of an optimizer that are looked at."""


class Pair(NamedTuple):
    """Two neighbours that are stuck."""

    looks: int
    names: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    made: Site | None


class Stuck:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, parameters: Parameters):
        self.optimizers = optimizers
        self.parameters = parameters
        self.pairs: dict[tuple[int, int], Pair] = {}
        """Ids of the two -> what is known of them."""
        self._never: set[tuple[int, int]] = set()

    def before_step(self, event: Event) -> None:
        """Which neighbours are zero, with gradients that are zero?"""
        entry = self.optimizers.of(event.subject, event)
        if not is_power_of_two(entry.watched):
            return
        found = set()
        for first, second in pairwise(entry.parameters()[:MOST]):
            matches = first.dim() == second.dim() == 2 and (
                first.shape[0] == second.shape[1] or first.shape[1] == second.shape[0]
            )
            if matches and is_zero(first) and is_zero(second):
                found.add((id(first), id(second)))
                self._add(entry, first, second)
        held = {id(one) for one in entry.parameters()}
        for key in [key for key in self.pairs if key not in found and set(key) <= held]:
            del self.pairs[key]
            self._never.add(key)

    def _add(self, entry: Entry, first: torch.Tensor, second: torch.Tensor) -> None:
        key = id(first), id(second)
        known = self.pairs.get(key)
        if known is not None:
            self.pairs[key] = known._replace(looks=known.looks + 1)
        elif entry.watched == 1 and key not in self._never and len(self.pairs) < MOST:
            names = self.parameters.names()
            (a, made), (b, _) = self.home(first), self.home(second)
            full = names.get(key[0], a), names.get(key[1], b)
            self.pairs[key] = Pair(1, full, (tuple(first.shape), tuple(second.shape)), made)

    def home(self, parameter: torch.Tensor) -> tuple[str, Site | None]:
        """The name of a parameter in its module, and where that module was made."""
        for birth in list(self.parameters.births.values()):
            module = birth.ref()
            own = module.__dict__.get("_parameters", {}) if module is not None else {}
            name = next((name for name, one in own.items() if one is parameter), None)
            if name is not None:
                return name, birth.site
        return "a tensor", None


def is_zero(parameter: torch.Tensor) -> bool:
    """All zeros, with a gradient of zeros; a sample is asked first."""
    grad = parameter.grad
    if grad is None or not content.readable(parameter) or not content.readable(grad):
        return False
    both = (parameter, grad)
    return all(not bool(content.sample(one).any()) for one in both) and all(
        map(content.all_zero, both)
    )
