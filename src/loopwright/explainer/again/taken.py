"""Which line takes a loss's number out of its graph, and how much of a graph would live on without it.

A loss is what a backward pass begins at. ``.item()`` of it, of what came out of it (a sum over losses) and of
the single numbers that it came out of (before it is divided, scaled, added to another) counts; an accuracy's,
which has no graph, does not, nor one that a library calls for itself. Nodes are noted by number and by their
place in a walk, so that nothing of a graph is held.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from loopwright.explainer.follow.source import Statement
from loopwright.observe.graph import is_leaf_node, nodes, shape_of
from loopwright.observe.sites import Position, Site

NEAR = 64
"""Nodes that are noted of a tensor that is read before any backward pass: what it came out of just now."""


@dataclass(slots=True, eq=False)
class Read:
    """One ``.item()``, ``float()`` or the like of one number."""

    line: int
    name: str
    call: str
    """As it is written: ``.item()``, ``float(loss)``."""
    adds_up: bool
    by_library: bool
    number: int = -1
    """Of the node that made the tensor; -1 without a graph."""
    near: frozenset[int] = frozenset()
    starts: set[tuple[int, int]] = field(default_factory=set)
    """Loss and node of it, by place, that the tensor's graph goes on with."""
    above: int = 0
    """Nodes of the tensor's graph that are not of a loss's."""
    of_loss: bool = False

    @property
    def order(self) -> tuple[bool, bool]:
        """How well it answers the question: a whole loss before a part, what is added up before others."""
        return any(place == 0 for _, place in self.starts), self.adds_up


class Taken:
    """The losses of one turn, and what is read as a number in it."""

    def __init__(self) -> None:
        self.places: list[dict[int, int]] = []
        """Of each loss: the number of each node in its graph, and its place in a walk; the loss's is 0."""
        self.parts: list[set[int]] = []
        """Of each loss: the numbers of the nodes that it is put together from, single numbers like itself."""
        self.reads: list[Read] = []

    def losses(self, roots: Sequence[torch.Tensor]) -> None:
        """A backward pass begins at ``roots``."""
        for root in roots:
            made = root.grad_fn
            below = nodes(made) if made is not None else ()
            places = {node._sequence_nr(): at for at, node in enumerate(below)
                      if not is_leaf_node(node)}  # fmt: skip
            self.places.append(places)
            self.parts.append(_parts(made))
            for read in self.reads:
                if not read.of_loss and made is not None:
                    self._settle(read, len(self.places) - 1, made._sequence_nr())

    def _settle(self, read: Read, loss: int, root: int) -> None:
        """Whether something that was read before a backward pass is of its loss."""
        places = self.places[loss]
        if read.number in self.parts[loss]:
            read.starts, read.of_loss = {(loss, places[read.number])}, True
        elif root in read.near:
            read.starts, read.of_loss = {(loss, 0)}, True
            read.above = sum(one not in places for one in read.near)

    def read(
        self, tensor: torch.Tensor, name: str, site: Site, statement: Statement | None
    ) -> None:
        """A tensor's number is about to be read."""
        place = site.position()
        parts = statement.nodes if statement is not None else ()
        adds_up = any(isinstance(one, ast.AugAssign) for one in parts)
        found = Read(place.line, name, _call(place, statement), adds_up, site.by_library)
        self.reads.append(found)
        if tensor.grad_fn is None or tensor.numel() != 1:
            return
        found.number = tensor.grad_fn._sequence_nr()
        if any(self.places):
            self._walk(found, tensor.grad_fn)
        if not found.of_loss:
            near = nodes(tensor.grad_fn, limit=NEAR)
            found.near = frozenset(one._sequence_nr() for one in near if not is_leaf_node(one))

    def _walk(self, read: Read, node: Any) -> None:
        """What of a graph is a loss's, whose backward pass has run, and how much is not."""
        pending, seen, starts, above = [node], {node}, set(), 0
        while pending:
            node = pending.pop()
            places = self._places(node)
            starts.update(places)
            if places:
                continue  # what is below is the loss's as well
            above += 1
            for below, _ in node.next_functions:
                if below is not None and below not in seen and not is_leaf_node(below):
                    seen.add(below)
                    pending.append(below)
        part = any(read.number in one for one in self.parts)
        read.of_loss = part or any(at == 0 for _, at in starts)
        if read.of_loss:
            read.starts, read.above = starts, above

    def _places(self, node: Any) -> list[tuple[int, int]]:
        number = node._sequence_nr()
        return [
            (loss, places[number]) for loss, places in enumerate(self.places) if number in places
        ]

    def chosen(self) -> list[Read]:
        """Those of the one line that the question is about, the last of those that answer it as well."""
        own = [one for one in self.reads if one.of_loss and not one.by_library]
        best = max((one.order for one in own), default=None)
        line = next((one.line for one in reversed(own) if one.order == best), 0)
        return [one for one in own if one.line == line]

    def why_none(self) -> str:
        """What is read in the turn, where no loss is; empty where nothing is."""
        others = {}
        for one in self.reads:
            what = f"`{one.name}`" if one.name else "a tensor"
            if one.by_library:
                others[one.line] = f"line {one.line} reads in a library's code"
            elif one.number < 0:
                others[one.line] = f"line {one.line} reads {what}, which holds no graph"
            else:
                others[one.line] = f"line {one.line} reads {what}, which is not the loss's"
        if not others or self.chosen():
            return ""
        told = "; ".join(others[line] for line in sorted(others))
        return f"no line of the program's own takes a number out of the loss's graph ({told})"


def _call(place: Position, statement: Statement | None) -> str:
    """How a number is asked for; the usual spelling where the source has another one, or none."""
    lines = statement.source.text.splitlines() if statement is not None else []
    if place.line <= len(lines) and place.end_line == place.line and place.end_column:
        text = lines[place.line - 1].encode()[place.column - 1 : place.end_column - 1].decode()
        if text.startswith(("float(", "int(")):
            return text
    return ".item()"


def _parts(root: Any) -> set[int]:
    """The nodes of single numbers that a loss comes out of through nothing but single numbers."""
    found: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if node is None or is_leaf_node(node) or node._sequence_nr() in found:
            continue
        shape = shape_of(node)
        if shape is not None and math.prod(shape) == 1:
            found.add(node._sequence_nr())
            pending += [below for below, _ in node.next_functions]
    return found


def living(reads: Iterable[Read], roots: Sequence[torch.Tensor]) -> Iterator[Any]:
    """The nodes below what was read, in a run of the same turn whose losses are ``roots``."""
    for loss, place in {start for one in reads for start in one.starts}:
        for at, node in enumerate(nodes(roots[loss].grad_fn)):
            if at == place:
                yield from nodes(node)
                break
