"""The autograd graph under a loss: its nodes by module and by statement, and what they keep for backward.

Nodes carry a number that counts up while the forward pass makes them. The number at the beginning and end of
each module's call and of each statement says which of them made a node: no tensor is hooked for it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from loopwright.events.explained import GraphNote, GroupNote
from loopwright.explainer.effects.saved import Saved
from loopwright.observe.graph import is_leaf_node
from loopwright.observe.modules import InnerCall

LIMIT = 20_000
OUTSIDE = "outside modules"


def next_number() -> int:
    """The number that the next node made by this thread will have."""
    return torch._C._autograd._get_sequence_nr()  # type: ignore[attr-defined]


class ModuleCall(InnerCall):
    """One call of a module: the numbers of the nodes made in it, its time, what came out."""

    __slots__ = ("began", "end", "ended", "parent", "path", "shape", "start", "timer")

    def __init__(
        self,
        module: torch.nn.Module,
        args: Sequence[Any],
        path: str,
        parent: ModuleCall | None,
        timer: Callable[[], int],
    ):
        super().__init__(module, tuple(args))
        self.path = path
        self.parent = parent
        self.timer = timer
        self.shape: list[int] | None = None
        self.start = next_number()
        self.end = 1 << 62
        self.ended = 0
        self.began = timer()

    def left(self, result: Any) -> None:
        """The call is over."""
        self.ended = self.timer()
        self.end = next_number()
        super().left(result)
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if isinstance(first, torch.Tensor):
            self.shape = list(first.shape)


@dataclass(slots=True)
class Marks:
    """Where a number of a node leads: statements and module calls of the turn."""

    starts: list[int] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """``"file:line"`` from each of ``starts`` on."""
    calls: list[ModuleCall] = field(default_factory=list)

    def clear(self) -> None:
        """Another turn begins."""
        self.starts.clear()
        self.places.clear()
        self.calls.clear()

    def held(self) -> Iterator[torch.Tensor]:
        """Parameters and buffers of the modules that were called."""
        for module in {id(call.module): call.module for call in self.calls}.values():
            yield from module.parameters(recurse=False)
            yield from module.buffers(recurse=False)

    def begin(self, place: str) -> None:
        """A statement goes on or begins."""
        number = next_number()
        if self.starts and self.starts[-1] == number:
            self.places[-1] = place
        else:
            self.starts.append(number)
            self.places.append(place)

    def place(self, number: int) -> str:
        """The statement that made a node."""
        at = bisect.bisect_right(self.starts, number) - 1
        return self.places[at] if at >= 0 else ""


def capture(roots: Sequence[torch.Tensor], marks: Marks, leaf_name: Callable[[torch.Tensor], str],
            *, line: int) -> tuple[GraphNote, Saved]:  # fmt: skip
    """Describe the graph under ``roots``; nothing of it is run or freed. ``settle`` adds what it kept."""
    order: list[Any] = []
    seen: dict[Any, int] = {}
    pending = [root.grad_fn for root in roots if root.grad_fn is not None]
    leaves = 0
    edges: list[tuple[Any, Any]] = []
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen[node] = len(order)
        order.append(node)
        leaves += is_leaf_node(node)
        for below, _ in node.next_functions:
            if below is not None:
                edges.append((node, below))
                if below not in seen:
                    pending.append(below)
    # Forward order; a leaf stands before the first node that uses it.
    first_use: dict[Any, int] = {}
    for node, below in edges:
        if is_leaf_node(below):
            number = node._sequence_nr() if not is_leaf_node(node) else 0
            first_use[below] = min(first_use.get(below, 1 << 62), number)
    order.sort(
        key=lambda node: (first_use[node], 0) if node in first_use else (node._sequence_nr(), 1)
    )
    note = GraphNote(line, len(order), leaves, 0, 0)
    groups = _Groups(marks)
    home = {node: groups.of(node._sequence_nr()) for node in order if not is_leaf_node(node)}
    for node, below in edges:  # a leaf belongs where it is used
        if is_leaf_node(below):
            home.setdefault(below, home.get(node, 0))
    saved = Saved([*marks.held(), *(one.variable for one in order if is_leaf_node(one))])
    names: dict[str, int] = {}
    places: dict[str, int] = {}
    for node in order:
        leaf = is_leaf_node(node)
        saved.add(None if leaf else node)
        name = f"leaf {leaf_name(node.variable)}" if leaf else node.name()
        place = "" if leaf else marks.place(node._sequence_nr())
        note.node_name.append(names.setdefault(name, len(names)))
        note.node_group.append(home.get(node, 0))
        note.node_line.append(places.setdefault(place, len(places)))
    index = {node: number for number, node in enumerate(order)}
    note.names = list(names)
    note.edges = [[index[node], index[below]] for node, below in edges]
    note.groups = groups.found
    note.places = list(places)
    return note, saved


def settle(note: GraphNote, saved: Saved, began: int) -> set[int]:
    """After backward: what each node kept, by module and by line. Returns the storages that live on.

    Args:
        note: what is filled in.
        saved: what the nodes had saved.
        began: ``next_number()`` when backward began.
    """
    sizes, alive = saved.count(at=began, kept=not note.freed)
    for at, (size, count) in enumerate(sizes):
        note.saved_bytes += size
        note.saved_tensors += count
        note.node_bytes.append(size)
        group = note.node_group[at]
        while group >= 0:  # counted in those around it too
            note.groups[group].nodes += 1
            note.groups[group].bytes += size
            group = note.groups[group].parent
        place = note.places[note.node_line[at]]
        if place:
            there = note.by_line.setdefault(place, [0, 0])
            there[0] += 1
            there[1] += size
    note.freed_bytes = saved.freed
    _shorten(note)
    return alive


def _shorten(note: GraphNote) -> None:
    """Keep the first ``LIMIT`` nodes of a graph that is larger."""
    note.left_out = max(0, note.nodes - LIMIT)
    if note.left_out:
        for rows in (note.node_name, note.node_group, note.node_line, note.node_bytes):
            del rows[LIMIT:]
        note.edges = [edge for edge in note.edges if max(edge) < LIMIT]


class _Groups:
    """Modules that made nodes, as a tree."""

    def __init__(self, marks: Marks):
        self.calls = sorted(marks.calls, key=lambda call: call.start)
        self.starts = [call.start for call in self.calls]
        self.found = [GroupNote("", "", -1, 0, 0)]
        self.numbers: dict[tuple[int, str], int] = {}
        """By the group around and the path, which two models may both have: "0" of each."""

    def of(self, number: int) -> int:
        """The group of the innermost call that made the node."""
        at = bisect.bisect_right(self.starts, number) - 1
        call = self.calls[at] if at >= 0 else None
        while call is not None and not call.start <= number < call.end:
            call = call.parent
        return self._group(call)

    def _group(self, call: ModuleCall | None) -> int:
        if call is None:
            return 0
        parent = self._group(call.parent)
        found = self.numbers.get((parent, call.path))
        if found is None:
            found = self.numbers[parent, call.path] = len(self.found)
            self.found.append(GroupNote(call.path, type(call.module).__name__, parent, 0, 0))
        return found
