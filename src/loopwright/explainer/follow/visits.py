"""One run of one statement, and what its variables hold when it is done."""

from __future__ import annotations

import ast
import weakref
from typing import Any

import torch

from loopwright.events.explained import Effects, EventNote, TensorNote
from loopwright.explainer.effects import flags, objects, values
from loopwright.explainer.follow.lines import Activation
from loopwright.explainer.follow.source import Statement
from loopwright.explainer.follow.turns import DEEP, LIGHT, TIMED, Turn
from loopwright.observe.sites import Site, variables


class Visit:
    """One run of one statement."""

    __slots__ = (
        "activation", "allocations", "began", "calls", "effects", "events", "further", "grad_mode", "objects",
        "order", "own", "phases", "seen", "statement", "tensors", "total", "turn",
    )  # fmt: skip

    def __init__(
        self,
        order: int,
        statement: Statement,
        activation: Activation,
        turn: Turn | None,
        began: int,
    ):
        self.order = order
        self.statement = statement
        self.activation = activation
        self.turn = turn
        self.began = began
        self.own = self.total = 0
        self.events: list[EventNote] = []
        self.effects = Effects()
        self.tensors: list[Any] = []
        self.seen: list[tuple[weakref.ref[torch.Tensor], TensorNote]] = []
        """Each tensor that is described in ``tensors``."""
        self.further = 0
        """Tensors of one container beyond those."""
        self.objects: list[dict[str, Any]] = []
        self.calls: list[Visit] = []
        self.allocations: list[tuple[int, int]] = []
        self.grad_mode = True
        self.phases: dict[str, int] = {}
        """Nanoseconds of it in calls of each phase."""

    @property
    def deep(self) -> bool:
        """True when its effects are looked at."""
        return self.turn is None or self.turn.mode == DEEP

    def note(self, kind: str, site: Site, facts: dict[str, Any], took: int) -> None:
        """An event happened in it, at a place, and took so many nanoseconds."""
        at = site.position()
        place = at.line, at.column, at.end_line or at.line, at.end_column
        self.events.append(EventNote(kind, *place, took / 1e9, facts))

    def look(self) -> None:
        """Summarise what the statement assigned."""
        frame = self.activation.frame
        if frame is None:
            return
        for node in self.statement.nodes:
            flags.told(self.effects, node, frame)
        space = variables(frame)
        for name in self.statement.stores:
            owner, _, attribute = name.partition(".")
            value = space.get(owner)
            if attribute:
                value = getattr(value, "__dict__", {}).get(attribute)
            for called, one in objects.tensors_in(value, name):
                self.seen.append((weakref.ref(one), values.summary(one, called)))
            self.further = max(self.further, objects.further(value))
            if isinstance(value, torch.nn.Parameter) or value is None:
                continue
            facts = objects.describe(value, name) if self._makes() else None
            if facts is not None:
                self.objects.append(facts)
        self.tensors = [note for _, note in self.seen]

    def _makes(self) -> bool:
        """An assignment of something that a call made; ``optimizer.step()`` makes no optimizer."""
        assigned = [
            node.value
            for node in self.statement.nodes
            if isinstance(node, (ast.Assign, ast.AnnAssign))
        ]
        several = [
            one
            for value in assigned
            for one in (value.elts if isinstance(value, ast.Tuple) else [value])
        ]
        return any(isinstance(one, ast.Call) for one in several)


def further(order: int, activation: Activation, turn: Turn, since: int) -> Visit | None:
    """The visit in which a turn that is only run counts: its loop's head, in the timed turn around it."""
    around = turn.parent
    while around is not None and around.mode == LIGHT:
        turn, around = around, around.parent
    source = turn.record.source
    if around is None or around.mode != TIMED or turn.loop is None or source is None:
        return None
    found = around.further.get(turn.record)
    if found is None:
        head = source.by_line[turn.loop.line]
        found = around.further[turn.record] = Visit(order, head, activation, around, since)
        around.visits.append(found)
    return found
