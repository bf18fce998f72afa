"""Statements that freeze tensors or let them learn: ``p.requires_grad = False``, ``m.requires_grad_()``."""

from __future__ import annotations

import ast
from types import FrameType
from typing import Any

import torch

from loopwright.events.explained import Effects
from loopwright.explainer.follow.source import Statement
from loopwright.observe.sites import variables

SETTING = (
    "eval",
    "train",
    "to",
    "cpu",
    "cuda",
    "float",
    "double",
    "half",
    "bfloat16",
    "requires_grad_",
)
"""Methods of a module that set something and return it."""


def owner_of(node: ast.stmt) -> ast.expr | None:
    """The expression whose flag a statement sets; None for another statement."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            return target.value
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        if isinstance(function, ast.Attribute) and function.attr == "requires_grad_":
            return function.value
    return None


def sets(statement: Statement) -> bool:
    """True where a statement sets the flag; each of its runs counts."""
    return any(owner_of(node) is not None for node in statement.nodes)


def turn_of(statement: Statement, turn: Any) -> Any:
    """The turn that a statement belongs to; what sets flags before anything of a step is part of no loop."""
    return None if turn is not None and sets(statement) and not turn.in_a_step else turn


def told(effects: Effects, node: ast.stmt, frame: FrameType) -> None:
    """Note how many tensors a statement that has ended set the flag of, by what it is now."""
    owner = owner_of(node)
    value = _value(owner, frame) if owner is not None else None
    tensors = list(value.parameters()) if isinstance(value, torch.nn.Module) else [value]
    for one in tensors:
        if isinstance(one, torch.Tensor) and one.is_leaf:
            into = effects.learning if one.requires_grad else effects.frozen
            into[:] = [a + b for a, b in zip(into or [0, 0], (1, one.numel()), strict=True)]


def _value(node: ast.expr, frame: FrameType) -> Any:
    """Of a name, or an attribute of one: nothing else can be evaluated twice.

    Nor is a call, but a module's methods that set something return the module.
    """
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in SETTING
    ):
        called = _value(node.func.value, frame)
        return called if isinstance(called, torch.nn.Module) else None
    if isinstance(node, ast.Name):
        return variables(frame).get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        held = getattr(owner, "__dict__", {})
        inside = (held, held.get("_modules", {}), held.get("_parameters", {}))
        return next((one[node.attr] for one in inside if node.attr in one), None)
    return None
