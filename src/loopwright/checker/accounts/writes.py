"""What is copied and averaged by hand: ``copy_``, ``lerp_``, ``mul_(d).add_(x, alpha=1 - d)``.

An average that shares its memory with what it averages is not one: it is what it reads. Counted by place
are the writes into a weight whose source is that very memory, beside all writes of the place: weights that
a model shares with itself on purpose are only some of those that a loop goes over. What an optimizer's step
writes is its own affair: some write a weight back that they did not have to convert.
"""

from __future__ import annotations

from typing import Any

import torch

from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import graph

Memory = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class Writes:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers, here: Any):
        self.optimizers = optimizers
        self.here = here
        self.onto_itself = Tally()
        self.all = Tally()
        self._scaled: tuple[Memory, float] | None = None
        """What was multiplied last, and by what."""
        self._held: tuple[int, frozenset[int]] = (-1, frozenset())

    def before_write(self, event: Event) -> None:
        """``copy_`` and ``lerp_``: is what is written read from the same memory?"""
        if event.args:
            self._written(event, event.args[0])

    def before_multiply(self, event: Event) -> None:
        """The first half of an average by hand."""
        factor = event.args[0] if event.args else None
        self._scaled = (_memory(event.subject), factor) if isinstance(factor, float) else None

    def before_add(self, event: Event) -> None:
        """The second half, when both factors make one."""
        weight, scaled = event.kwargs.get("alpha"), self._scaled
        if scaled is None or not isinstance(weight, float) or abs(scaled[1] + weight - 1) > 1e-6:
            return
        if scaled[0] == _memory(event.subject) and event.args:
            self._written(event, event.args[0])

    def _written(self, event: Event, source: Any) -> None:
        written = event.subject
        if self.here.in_step or not isinstance(source, torch.Tensor) or not written.numel():
            return
        self.all.add(event.site)
        if _memory(written) == _memory(source) and _memory(written)[0] in self._weights():
            seen = self.onto_itself.add(event.site, write=event.site)
            seen.facts.setdefault("since", self.optimizers.total_steps)
            seen.facts["steps"] = self.optimizers.total_steps - seen.facts["since"]

    def _weights(self) -> frozenset[int]:
        """Where the memory of all stepped parameters begins."""
        steps, found = self._held
        if steps != self.optimizers.total_steps:
            parameters = [p for one in self.optimizers.live() for p in one.parameters()]
            found = frozenset(graph.storage_pointer(one) for one in parameters) - {0}
            self._held = (self.optimizers.total_steps, found)
        return found


def _memory(tensor: torch.Tensor) -> Memory:
    return (
        graph.storage_pointer(tensor),
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tuple(tensor.stride()),
    )
