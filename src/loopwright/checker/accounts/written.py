"""How the call of a collective is written: what it sends, and the loops around it.

Read from the source of the file once for each place that calls; nothing of the program's is run.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

_INSIDE = ("grad", "data")
THROUGH = ("list", "tuple", "iter", "enumerate", "tqdm", "reversed")
_ADDING = ("sum", "stack", "cat", "fsum")


_SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass
class Written:
    """How the call is written; the same each time.

    Attributes:
        sent: the expression of what is sent, without ``.grad`` and ``.data``.
        loops: the loops around it in its function, from the inside.
        function: the function, or the module.
    """

    sent: ast.expr
    whole: ast.expr
    call: ast.Call
    loops: list[ast.For]
    function: ast.AST


def call_at(module: ast.Module | None, code: CodeType, instruction: int) -> Written | None:
    """Find the call that an instruction is, and what is around it."""
    place = next(itertools.islice(code.co_positions(), max(instruction, 0) // 2, None), None)
    if module is None or place is None or None in place:
        return None
    found: list[ast.AST] = [module]
    while True:  # into the child that holds the place, down to the call
        inner = next((one for one in ast.iter_child_nodes(found[-1]) if _holds(one, place)), None)
        if inner is None:
            return None
        found.append(inner)
        if isinstance(inner, ast.Call) and _place(inner) == place:
            break
    call = found[-1]
    assert isinstance(call, ast.Call)
    inside = max(at for at, one in enumerate(found) if isinstance(one, _SCOPES))
    loops = [one for one in found[inside:][::-1] if isinstance(one, ast.For)]
    given = [*call.args, *(one.value for one in call.keywords)]
    plain = [one for one in given if is_path(_assigned(one, loops))]
    # of several tensors the last one is sent, and those before it receive
    for whole in (plain[1:2] if _receives_first(call) else []) + plain[:1]:
        return Written(_inside(_assigned(whole, loops)), whole, call, loops, found[inside])
    return None


def _receives_first(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name.startswith(("all_gather", "reduce_scatter"))


def _place(node: Any) -> tuple[int, int, int, int]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _holds(node: Any, place: tuple[Any, ...]) -> bool:
    if not hasattr(node, "lineno"):
        return any(_holds(one, place) for one in ast.iter_child_nodes(node))
    line, end, column, end_column = place
    return (node.lineno, node.col_offset) <= (line, column) and (end, end_column) <= (
        node.end_lineno,
        node.end_col_offset,
    )


def is_path(node: ast.expr) -> bool:
    """Whether it is written as names, attributes and keys alone."""
    if isinstance(node, ast.Attribute):
        return is_path(node.value)
    if isinstance(node, ast.Subscript):
        return is_path(node.value) and isinstance(node.slice, (ast.Name, ast.Constant))
    return isinstance(node, ast.Name)


def _inside(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute) and node.attr in _INSIDE:
        node = node.value
    return node


def _assigned(node: ast.expr, loops: list[ast.For]) -> ast.expr:
    """Follow a variable to what the innermost loop sets it to, where that is one line."""
    if not isinstance(node, ast.Name) or not loops:
        return node
    sets = [
        one
        for one in ast.walk(loops[0])
        if isinstance(one, ast.Name) and one.id == node.id and isinstance(one.ctx, ast.Store)
    ]
    lines = [
        one
        for one in ast.walk(loops[0])
        if isinstance(one, ast.Assign) and len(one.targets) == 1 and one.targets[0] in sets
    ]
    return lines[0].value if len(sets) == len(lines) == 1 and is_path(lines[0].value) else node


def chosen_by(written: Written) -> tuple[ast.For | None, str | None]:
    """Return the innermost loop whose variable the path goes through, and that variable."""
    used = [one.id for one in ast.walk(written.sent) if isinstance(one, ast.Name)]
    for loop in written.loops:
        for target in ast.walk(loop.target):
            if isinstance(target, ast.Name) and target.id in used:
                return loop, _key_beside(loop, target.id)
    return None, None


def _key_beside(loop: ast.For, name: str) -> str:
    """Return the variable of the key, where a loop over ``.items()`` gives a value its variable."""
    for pair in ast.walk(loop.target):
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
            key, value = pair.elts
            if isinstance(key, ast.Name) and isinstance(value, ast.Name) and value.id == name:
                held = iterated(loop)
                if isinstance(held, ast.Call) and getattr(held.func, "attr", "") == "items":
                    return key.id
    return name


def iterated(loop: ast.For) -> ast.expr:
    """Return what is iterated over, without ``enumerate`` and its like around it."""
    held = loop.iter
    while isinstance(held, ast.Call) and getattr(held.func, "id", "") in THROUGH and held.args:
        held = held.args[0]
    return held


def is_added_up(loop: ast.For, written: Written, key: str) -> bool:
    """Whether what was sent is used where its name is not: added to something, kept in a list."""
    path, alias = ast.unparse(written.sent), ast.unparse(written.whole)
    texts = {path, alias}
    for line in itertools.chain(*map(_lines, (*loop.body, *loop.orelse))):
        if any(one is written.call for one in ast.walk(line)):
            continue
        uses = list(_outermost(line, texts))
        if not uses or any(not isinstance(one.ctx, ast.Load) for one in uses):
            continue  # it stays where it is
        if isinstance(line, ast.Assign) and [*map(ast.unparse, line.targets)] == [alias]:
            continue  # the variable that is sent
        rest = {one.id for one in _without(line, texts) if isinstance(one, ast.Name)}
        if key not in rest:
            return True
    holder = written.sent.value if isinstance(written.sent, ast.Subscript) else None
    held = iterated(loop)
    if isinstance(held, ast.Call) and isinstance(held.func, ast.Attribute):
        holder = holder or held.func.value
    text = ast.unparse(holder) if holder is not None else None
    inside = {id(one) for one in ast.walk(loop)}
    return any(
        isinstance(one, ast.Call) and id(one) not in inside and _joins(one, text)
        for one in ast.walk(written.function)
    )


def _joins(call: ast.Call, holder: str | None) -> bool:
    """Whether a call takes all that stands in a container together."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if isinstance(call.func, ast.Attribute) and name == "values":
        return ast.unparse(call.func.value) == holder
    return name in _ADDING and any(
        isinstance(one, ast.expr) and ast.unparse(one) == holder for one in ast.walk(call)
    )


def _lines(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Statements without others inside."""
    inner = [
        one for one in ast.walk(statement) if isinstance(one, ast.stmt) and one is not statement
    ]
    if inner:
        for one in ast.iter_child_nodes(statement):
            if isinstance(one, ast.stmt):
                yield from _lines(one)
    else:
        yield statement


def _outermost(node: ast.AST, texts: set[str]) -> Iterator[Any]:
    if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) and ast.unparse(node) in texts:
        yield node
        return
    for one in ast.iter_child_nodes(node):
        yield from _outermost(one, texts)


def _without(node: ast.AST, texts: set[str]) -> Iterator[ast.AST]:
    if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) and ast.unparse(node) in texts:
        return
    yield node
    for one in ast.iter_child_nodes(node):
        yield from _without(one, texts)
