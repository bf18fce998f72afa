"""What the nodes of a graph keep for backward, and what of it backward then frees.

A node may have saved a view of a tensor that the program holds anyway: a batch that is a slice of the data, a
frozen weight. What the graph alone kept alive is known once backward has let go of it: weak references to the
storages say which of them are gone. Such a storage counts whole, since all of it was kept; of one that lives
on, the bytes that the saved tensors cover.

Graphs of micro-batches follow one another: what a step keeps at one time is less than the sum of what its
graphs keep. The number of the node that saved a storage first says since when it is kept, the number that the
next node would have had when backward let go of it until when.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from types import FrameType
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from loopwright.explainer.effects.names import spaces
from loopwright.explainer.effects.objects import tensors_in
from loopwright.observe import content, graph


@dataclass(slots=True)
class Held:
    """A storage that a graph kept; numbers of nodes tell the time."""

    key: int
    spans: list[tuple[int, int]]
    """The bytes of it that saved tensors cover."""
    since: int
    until: int
    alone: bool
    """Nothing else held it: it was gone when backward returned, or no variable of the program holds it."""
    storage: tuple[StorageWeakRef, int] | None = None
    """Of a graph that was retained, with its bytes: it may go at any time after that."""

    def look(self, now: int) -> bool:
        """True while a retained graph may keep it; all of what was its alone was kept, until ``now``."""
        if self.storage is None or not self.storage[0].expired():
            return self.storage is not None
        self.spans = [(0, self.storage[1])] if self.alone else self.spans
        self.until, self.storage = now, None
        return False


def most(held: Iterable[Held]) -> tuple[int, int]:
    """Bytes that graphs kept at one time at most, and that they alone held."""
    known: dict[int, list[Held]] = {}
    for one in held:
        several = known.setdefault(one.key, [])
        if several and several[-1].until > one.since:  # by two graphs: counted once
            last = several.pop()
            spans = list(last.spans)
            for first, end in one.spans:
                _cover(spans, first, end)
            alone = max(last, one, key=attrgetter("until")).alone
            one = Held(
                one.key, spans, min(last.since, one.since), max(last.until, one.until), alone
            )
        several.append(one)
    return _highest(known, alone=False), _highest(known, alone=True)


def _highest(known: dict[int, list[Held]], *, alone: bool) -> int:
    changes = []
    for one in (one for several in known.values() for one in several):
        if one.alone or not alone:
            size = sum(end - first for first, end in one.spans)
            changes += [(one.since, size), (one.until, -size)]
    highest = total = 0
    for _, size in sorted(changes):  # what goes at a number goes before what comes
        total += size
        highest = max(highest, total)
    return highest


class Saved:
    """Tensors that nodes saved, in the order in which the nodes are added.

    Args:
        aside: parameters and buffers, which no graph keeps alive.
    """

    def __init__(self, aside: Iterable[torch.Tensor]):
        self.hooked = 0
        """Nodes of which something goes through hooks of the program's, and is not read."""
        self.aside = {_key(one) for one in aside if content.readable(one)}
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.spans: list[list[tuple[int, int, int]]] = []
        """Of each node: storages, and from where to where a tensor reaches in them."""
        self.attributes: dict[type, list[str]] = {}
        self.since: dict[int, int] = {}
        """Number of the node that saved a storage first."""
        self.freed = 0
        """Bytes of the storages that are gone."""
        self.held: list[Held] = []

    def add(self, node: Any) -> None:
        """Note what a node saved; one that saved nothing too."""
        spans: list[tuple[int, int, int]] = []
        self.spans.append(spans)
        for tensor in self._tensors(node) if node is not None else ():
            if not content.readable(tensor) or not tensor.numel():
                continue
            key = _key(tensor)
            if key in self.aside:
                continue
            if key not in self.storages:
                storage = tensor.untyped_storage()
                self.storages[key] = (StorageWeakRef(storage), storage.nbytes())
            spans.append((key, *_span(tensor)))
            self.since[key] = min(self.since.get(key, 1 << 62), node._sequence_nr())

    def count(self, *, at: int, kept: bool) -> tuple[list[tuple[int, int]], set[int]]:
        """After backward: bytes and tensors of each node that none before it kept; storages that live on.

        Args:
            at: the number that a node would have had when backward began.
            kept: the graph was retained.
        """
        gone = {key for key, (one, _) in self.storages.items() if one.expired()}
        self.freed = sum(self.storages[key][1] for key in gone)
        covered: dict[int, list[tuple[int, int]]] = {}
        found = []
        for spans in self.spans:
            size = count = 0
            for key, first, last in spans:
                span = (0, self.storages[key][1]) if key in gone else (first, last)
                new = _cover(covered.setdefault(key, []), *span)
                size += new
                count += new > 0
            found.append((size, count))
        alive = set(self.storages) - gone
        until = 1 << 62 if kept else at
        self.held = [
            Held(key, spans, min(self.since[key], at - 1), until, kept or key in gone,
                 self.storages[key] if kept else None)
            for key, spans in covered.items()
        ]  # fmt: skip
        self.storages = {}
        return found, alive

    def _tensors(self, node: Any) -> list[torch.Tensor]:
        names = self.attributes.get(type(node))
        if names is None:
            names = [
                one for one in dir(node) if one.startswith("_saved_") or one == "saved_tensors"
            ]
            self.attributes[type(node)] = names
        found: list[torch.Tensor] = []
        through_hooks = False
        for name in names:
            try:
                if graph.hooked(node, name):
                    through_hooks = True
                    continue
                value = getattr(node, name)
            except RuntimeError:  # freed already, or changed in place
                continue
            found += [one for one in (value if isinstance(value, (tuple, list)) else [value])
                      if isinstance(one, torch.Tensor)]  # fmt: skip
        self.hooked += through_hooks
        return found


def holders(alive: set[int], frame: FrameType | None) -> dict[int, str]:
    """Storages that live on -> the program's variable that holds it: of several the smallest, as a batch."""
    found: dict[int, tuple[int, str]] = {}
    for name, value in (one for space in spaces(frame) for one in list(space.items())):
        if name.startswith("_"):
            continue
        for _, one in tensors_in(value, name):
            if content.readable(one) and (key := _key(one)) in alive:
                size = one.numel() * one.element_size()
                found[key] = min(found.get(key, (size, name)), (size, name), key=itemgetter(0))
    return {key: name for key, (_, name) in found.items()}


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The bytes of its storage from a tensor's first element to its last."""
    size = tensor.element_size()
    first = int(tensor.storage_offset()) * size
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (reach + 1) * size


def _cover(covered: list[tuple[int, int]], first: int, last: int) -> int:
    """Add a span to those that are covered; how many bytes were not."""
    before = sum(end - start for start, end in covered)
    rest = []
    for start, end in covered:
        if end < first or start > last:
            rest.append((start, end))
        else:
            first, last = min(first, start), max(last, end)
    covered[:] = [*rest, (first, last)]
    return sum(end - start for start, end in covered) - before
