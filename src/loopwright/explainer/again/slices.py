"""The statements of a loop's body that a step is made of, as a function that can be run again.

What is needed: statements in which something of the step happened (a forward with gradients, loss,
backward, step ...), and those that assign names which these read. Printing, logging and validation are left
out.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from loopwright.explainer.effects.byhand import cleared
from loopwright.explainer.follow.source import Loop, Statement

NEEDED = (
    "loss",
    "backward",
    "grad",
    "step",
    "zero_grad",
    "clip",
    "scale",
    "unscale",
    "scaler_step",
)
NEVER = ("fetch", "save", "load", "collective", "message", "group", "seed", "wrap")
WRITERS = frozenset(
    (
        "write",
        "writelines",
        "writerow",
        "writerows",
        "add_scalar",
        "add_scalars",
        "add_histogram",
        "log",
        "info",
        "warning",
        "debug",
        "error",
        "exception",
        "send",
        "put",
        "system",
        "Popen",
        "save",
        "savefig",
        "dump",
        "unlink",
    )
)
FORBIDDEN = (
    ast.Global,
    ast.Nonlocal,
    ast.Yield,
    ast.YieldFrom,
    ast.Await,
    ast.Import,
    ast.ImportFrom,
)


class NotReplayedError(Exception):
    """A step cannot be run again; the message says which line prevents it."""


class OtherwiseError(NotReplayedError):
    """Run again unchanged, a step does not do what it did."""


def again(
    loop: Loop, path: str, visits: list[Any], space: dict[str, Any], *, whole: bool = False
) -> tuple[list[ast.stmt], list[str], list[str]]:
    """The needed statements of the body, the names that they take from ``space``, why others are left out.

    With ``whole``, needed is everything that ran before the step's last statement: one that writes into what
    a variable holds (``label.fill_(0)``, ``group["lr"] = lr``) assigns no name.
    """
    inside = [(node, list(_visits_of(node, path, visits))) for node in loop.node.body]
    stepped = any(
        event.kind == "step" for _, found in inside for one in found for event in one.events
    )
    needed = [bool(found) and _is_needed(found, by_hand=not stepped) for _, found in inside]
    if not any(needed):
        raise NotReplayedError("no statement of the loop's own body runs the step")
    wanted: set[str] = set()
    left_out: list[str] = []
    for index in range(len(inside) - 1, -1, -1):
        node, found = inside[index]
        stored = {
            one.id
            for one in ast.walk(node)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
        if not needed[index] and found and any(needed[index:]):
            needed[index] = bool(stored & wanted)
            if whole and not needed[index]:
                reason = _refused(node, found)
                needed[index] = not reason
                left_out += [reason] if reason else []
        if needed[index]:
            wanted |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    chosen = []
    for (node, found), take in zip(inside, needed, strict=True):
        if take:
            if reason := _refused(node, found):
                raise NotReplayedError(reason)
            chosen.append(node)
    return chosen, sorted(name for name in wanted if name in space), left_out[::-1]


def used(body: list[ast.stmt], path: str, visits: list[Any]) -> set[str]:
    """Names and attributes in the chosen statements and in those of functions that they call."""
    nodes = [one for node in body for one in ast.walk(node)]
    for node in body:
        for visit in _visits_of(node, path, visits):
            nodes += [one for statement in visit.statement.nodes for one in _own(statement)]
    names = {one.id for one in nodes if isinstance(one, ast.Name)}
    return names | {one.attr for one in nodes if isinstance(one, ast.Attribute)}


def _visits_of(node: ast.stmt, path: str, visits: list[Any]) -> Iterator[Any]:
    """Everything that ran in a statement, functions that it called included."""
    for visit in visits:
        statement: Statement = visit.statement
        if statement.source.path == path and node.lineno <= statement.line <= (
            node.end_lineno or node.lineno
        ):
            yield from _with_calls(visit)


def _with_calls(visit: Any) -> Iterator[Any]:
    yield visit
    for one in visit.calls:
        yield from _with_calls(one)


def _is_needed(visits: list[Any], *, by_hand: bool) -> bool:
    """Something of the step happens in it; with ``by_hand``, no optimizer moves the parameters."""
    for visit in visits:
        if cleared(visit) or (by_hand and visit.effects.parameters):
            return True
        for event in visit.events:
            if event.kind in NEEDED or (event.kind == "forward" and event.facts.get("grad")):
                return True
    return False


def _refused(node: ast.stmt, visits: list[Any]) -> str:
    """Why a statement is not run twice: it cannot stand alone, or reaches outside; empty where it may be."""
    for one in ast.walk(node):
        if isinstance(one, FORBIDDEN):
            return f"line {node.lineno} cannot be run by itself ({type(one).__name__.lower()})"
    for visit in visits:
        line = visit.statement.line
        for event in visit.events:
            if event.kind in NEVER:
                return f"line {event.line} would {_does(event.kind)} once more"
        for name in _methods(visit.statement):
            if name in WRITERS:
                return f"line {line} would write once more (`.{name}`)"
    return ""


def _does(kind: str) -> str:
    return {
        "fetch": "take a further batch",
        "save": "save a file",
        "load": "load a file",
        "collective": "talk to other ranks",
        "message": "talk to another rank",
        "group": "make or end a process group",
        "seed": "set a seed",
        "wrap": "wrap the model",
    }[kind]


def _methods(statement: Statement) -> Iterator[str]:
    """Names of methods called in a simple statement, or in a compound one's head."""
    for one in (inner for node in statement.nodes for inner in _own(node)):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
            yield one.func.attr


def _own(node: ast.stmt) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("body", "orelse", "finalbody", "handlers", "cases"):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.AST):
                yield from ast.walk(one)


def function(
    body: list[ast.stmt], names: list[str], path: str, space: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """``body`` as a function of ``names``; it returns its variables."""
    arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    once = ast.For(
        ast.Name("__once__", ast.Store()), ast.Tuple([ast.Constant(0)], ast.Load()), body, [], None
    )
    end = ast.Return(ast.Call(ast.Name("locals", ast.Load()), [], []))
    made = ast.FunctionDef("__again__", arguments, [once, end], [], None)
    if "type_params" in ast.FunctionDef._fields:
        made.type_params = []  # type: ignore[attr-defined]
    tree = ast.fix_missing_locations(ast.Module([made], []))
    home: dict[str, Any] = {}
    exec(compile(tree, path, "exec"), space, home)  # noqa: S102  the program's own statements
    return home["__again__"]
