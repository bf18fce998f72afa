"""What a loss is compared with, where that carries a graph of its own.

Three kinds are told apart: a target bootstrapped from a network's output (reward + factor * value), the
output of another network that nobody trains, and the output of a *part* of the very network that predicts it.
The last is a mistake only where nothing else holds that part in its place: where every term of the loss is of
this kind, a constant output makes the whole loss zero.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import graph

if TYPE_CHECKING:
    from loopwright.checker.accounts.losses import LossPlace

DISTANCES = frozenset(
    {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "cosine_embedding_loss"}
)
TERMS = 24


class Targets:
    """Targets with a graph; see the module."""

    def __init__(self) -> None:
        self.of_part = Tally()
        """Backward places all of whose terms compare a network with a part of itself, by the loss's place."""
        self._terms: list[tuple[weakref.ref[Any], LossPlace]] = []
        self._last_shape: tuple[int, ...] = ()

    def look(
        self, place: LossPlace, event: Event, given: torch.Tensor, target: torch.Tensor
    ) -> None:
        """Note what kind of target this is."""
        _bootstrapped(place, target)
        own = {id(leaf) for leaf in graph.leaves(given.grad_fn, 4000)}
        theirs = {id(leaf) for leaf in graph.leaves(target.grad_fn, 4000)}
        if not own or not theirs:
            return
        if not own & theirs:
            known = place.seen.get("another's target")
            since = known.facts["since"] if known is not None else event.number
            shape = tuple(target.shape)
            place.note("another's target", leaves=theirs, since=since, target=shape)
        elif theirs < own and place.name in DISTANCES and isinstance(event.result, torch.Tensor):
            mark = graph.mark(event.result.grad_fn, event.number)
            self._terms = [*self._terms[-TERMS:], (weakref.ref(mark), place)]
            self._last_shape = tuple(target.shape)

    def before_backward(self, event: Event) -> None:
        """Do all terms of this loss compare a network with a part of itself?"""
        root = event.subject
        if not self._terms or not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        marks = {id(mark): place for ref, place in self._terms if (mark := ref()) is not None}
        self._terms = []
        terms = _terms(root.grad_fn, marks)
        if terms:
            seen = self.of_part.add((event.site, terms[0]), backward=event.site)
            seen.facts |= {"terms": len(terms), "target": self._last_shape}


def _terms(root: Any, marks: dict[int, LossPlace]) -> list[LossPlace]:
    """The marked terms that a loss is the weighted sum of; empty where it has any other term."""
    found: list[LossPlace] = []
    pending = [root]
    for _ in range(4 * TERMS):
        if not pending:
            return found
        node = pending.pop()
        marked = [marks[id(one)] for one in node.metadata.values() if id(one) in marks]
        if marked:
            found += marked
            continue
        weighted = node.name().startswith(("Add", "Mul", "Div", "Sum", "Mean", "Stack"))
        if not weighted:
            return []
        pending += [inner for inner, _ in node.next_functions if inner is not None]
    return []


def _bootstrapped(place: LossPlace, target: torch.Tensor) -> None:
    """A target that was made as reward + factor * (a network's output): both with a graph."""
    node = graph.producer(target.grad_fn)
    if node is None or not node.name().startswith("Add"):
        return
    operands = [inner for inner, _ in node.next_functions]
    scaled = [one for one in operands if one is not None]
    if len(scaled) != 1 or len(operands) != 2:
        return
    node = graph.producer(scaled[0])
    while node is not None and node.name().startswith("Mul"):
        below = [inner for inner, _ in node.next_functions if inner is not None]
        if len(below) != 1:
            return
        place.note("bootstrapped target", target=tuple(target.shape))
        return
