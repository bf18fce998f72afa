"""Networks inside a network that only supply something: called without gradients beside one that trains.

A root of its own has its place in the mode account. A teacher that is an attribute of the module that trains
is called inside its forward: it reads what a part reads that is trained, builds no graph, and its weights
stand still. A frozen part of a chain is no teacher: what is trained reads what it makes, not what it reads.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.observe import content
from loopwright.observe.sites import Site


class Teacher:
    """One of them, as the recorded forwards saw it."""

    def __init__(self, module: nn.Module, site: Site, steps: int):
        self.ref = weakref.ref(module)
        self.kind = type(module).__name__
        self.site = site
        self.since = self.until = steps
        """Optimizer steps before the first and the latest call."""
        self.calls = 0
        self.noisy: dict[str, int] = {}
        """What in it acted as in training -> in how many calls."""
        self.noisy_calls = 0
        self.moved = False
        self._first = _weights_of(module)

    def called(self, module: nn.Module, steps: int, noisy: set[str]) -> None:
        """One more recorded call."""
        self.calls += 1
        self.until = steps
        self.noisy_calls += bool(noisy)
        for one in noisy:
            self.noisy[one] = self.noisy.get(one, 0) + 1
        if not self.moved:
            self.moved = not all(map(content.same, self._first, _weights_of(module)))


class Teachers:
    """Told by the mode account, which asks what belongs to one."""

    def __init__(self, optimizers: Optimizers):
        self.optimizers = optimizers
        self.found: dict[int, Teacher] = {}

    def inside(self, inner: list[Any], depends: Callable[[nn.Module], str | None]) -> set[int]:
        """Note the teachers among the calls of one recorded forward that trains.

        Returns:
            The ids of all their modules.
        """
        known: set[int] = set()
        if not torch.is_grad_enabled():
            return known
        for call in inner:
            if call.grad or call.site is None or not call.pointer or id(call.module) in known:
                continue
            parts = {id(one): one for one in call.module.modules()}
            if not any(
                other.grad and other.pointer == call.pointer and trains(other.module)
                for other in inner
                if id(other.module) not in parts
            ):
                continue
            weights = list(call.module.parameters())
            if not weights or not all(map(content.readable, weights[:1])):
                continue
            known |= set(parts)
            acting = {
                id(one.module): what
                for one in inner
                if id(one.module) in parts
                and one.training
                and (what := depends(one.module)) is not None
            }
            self._note(call, set(acting.values()))
        return known

    def _note(self, call: Any, noisy: set[str]) -> None:
        steps = self.optimizers.total_steps
        teacher = self.found.get(id(call.module))
        if teacher is None or teacher.ref() is not call.module:
            if len(self.found) >= 64:
                return
            teacher = self.found[id(call.module)] = Teacher(call.module, call.site, steps)
        teacher.called(call.module, steps, noisy)


def trains(module: nn.Module) -> bool:
    """True when some weight of it wants a gradient."""
    return any(one.requires_grad for one in module.parameters())


def _weights_of(module: nn.Module) -> list[torch.Tensor]:
    """Samples of its first and last weight."""
    weights = list(module.parameters())
    return [content.sample(one) for one in (weights[0], weights[-1]) if content.readable(one)]
