"""Parts of a step that are written by hand: a loss, clearing, updating.

A loss is what backward begins at, so the statement that made that tensor computes it, whatever it calls. Who
clears ``.grad`` in a statement of its own clears gradients; who moves parameters in a loop in which no
optimizer steps makes the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from loopwright.events.explained import Effects, EventNote
from loopwright.explainer.follow.turns import DEEP
from loopwright.observe.graph import is_leaf_node
from loopwright.observe.sites import variables

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

FAR = 200
"""Nodes of the backward statement's own that are gone through to find the loss."""


def rooted(recording: Recording, root: torch.Tensor, value: float | None) -> None:
    """Backward begins at ``root``: mark where it was stored, and the statement that computed it."""
    visits = list(_visits(recording))
    for visit in visits:
        for seen, note in visit.seen:
            note.root = note.root or seen() is root
    now = recording.visit()
    here = _place(now) if now is not None else ""
    for node in _losses(root.grad_fn, recording, here):
        place = recording.marks.place(node._sequence_nr())
        visit = next((one for one in reversed(visits) if _place(one) == place), None)
        if visit is None or any(event.kind == "loss" for event in visit.events):
            continue
        facts: dict[str, Any] = {"by_hand": True, "node": node.name(), "root": node is root.grad_fn}
        found = value if facts["root"] else _value(visit, node.name())
        if found is not None:
            facts["value"] = found
        line, end = visit.statement.line, visit.statement.end_line
        visit.events.append(EventNote("loss", line, 1, end, 1, 0.0, facts))


def _visits(recording: Recording) -> Iterator[Any]:
    """Statements of the turn that runs and of those around it, in order."""
    turn = recording.turn
    if turn is None:
        yield from recording.setup
        return
    around = [turn]
    while around[-1].parent is not None and around[-1].parent.mode == DEEP:
        around.append(around[-1].parent)
    yield from sorted(
        (visit for one in around for visit in one.everything()), key=lambda one: one.order
    )


def _place(visit: Any) -> str:
    return f"{visit.statement.source.number}:{visit.statement.line}"


def _losses(root: Any, recording: Recording, here: str) -> list[Any]:
    """The node of the loss; below what the backward statement itself makes of it (scaled, divided)."""
    found: list[Any] = []
    own = [root] if root is not None and not is_leaf_node(root) else []
    seen: set[Any] = set()
    while own and len(seen) < FAR:
        node = own.pop()
        if node in seen:
            continue
        seen.add(node)
        if recording.marks.place(node._sequence_nr()) != here:
            if _is_scalar(node):
                found.append(node)
            continue
        own += [
            below
            for below, _ in node.next_functions
            if below is not None and not is_leaf_node(below)
        ]
    return found or [root for _ in range(bool(seen))]


def _is_scalar(node: Any) -> bool:
    made = getattr(node, "_input_metadata", None) or ()
    return len(made) == 1 and len(made[0].shape) == 0


def _value(visit: Any, node: str) -> float | None:
    """Of a scalar that the statement stored."""
    found = [
        note.values[0]
        for note in visit.tensors
        if note.node == node and not note.shape and note.values
    ]
    return found[-1] if found else None


def in_own_lines(effects: Effects, stack: list[Any]) -> None:
    """Parameters that have just moved do so in lines of an optimizer's class, where one's method runs."""
    for note in effects.parameters:
        note.by = note.by or _optimizer_in(stack)


def _optimizer_in(stack: list[Any]) -> str:
    for activation in reversed(stack):
        code = activation.code.code
        first = variables(activation.frame).get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(first, torch.optim.Optimizer):
            return type(first).__name__
    return ""


def phases(visit: Any) -> list[str]:
    """Phases of a step that a statement is, without a call that is known for it."""
    found = ["loss" for event in visit.events if event.facts.get("by_hand")][:1]
    if visit.events or visit.turn is None:
        return found
    if any(note.change in ("cleared", "zeroed") for note in visit.effects.grads):
        found.append("zero_grad")
    if visit.effects.parameters and _without_optimizer(visit.turn):
        found.append("step")
    return found


def cleared(visit: Any) -> bool:
    """It lets go of gradients or sets them to 0, otherwise than by ``zero_grad``."""
    return not any(event.kind == "zero_grad" for event in visit.events) and any(
        note.change in ("cleared", "zeroed") for note in visit.effects.grads
    )


def moves(turn: Any) -> bool:
    """Parameters move in it, after gradients were computed, and no optimizer made a step."""
    return not turn.count("step") and any(
        visit.effects.parameters and _without_optimizer(turn) for visit in turn.everything()
    )


def _without_optimizer(turn: Any) -> bool:
    records = [turn.record]
    while turn.parent is not None:
        turn = turn.parent
        records.append(turn.record)
    return not any(one.steps for one in records) and any(one.backwards for one in records)
