"""The statements and the loops of a source file, by line."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import CodeType


@dataclass(slots=True, eq=False)
class Loop:
    """A ``for`` or ``while`` statement."""

    line: int
    end_line: int
    function: str
    node: ast.For | ast.AsyncFor | ast.While
    number: int = -1
    """In the order in which loops began to run; set by ``turns``."""

    @property
    def first(self) -> int:
        """The line of the first statement of its body."""
        return self.node.body[0].lineno

    @property
    def in_one_line(self) -> bool:
        """True for ``for p in parameters: p.grad = None``, whose turns all are in one statement's line."""
        return self.first == self.line


@dataclass(slots=True, eq=False)
class Statement:
    """One statement: a simple one, or the head of a compound one."""

    source: Source
    line: int
    end_line: int
    loops: tuple[Loop, ...]
    """Those that it runs in, the outermost first; a loop's head is in its own loop."""
    node: ast.stmt
    heads: Loop | None = None
    stores: tuple[str, ...] = ()
    """Names, and dotted attributes of names, that it assigns."""
    number: int = 0
    beside: tuple[ast.stmt, ...] = ()
    """Statements before it that end in its line: all of them are one for Python's tracing."""

    @property
    def nodes(self) -> tuple[ast.stmt, ...]:
        """What runs in it, in order."""
        return (*self.beside, self.node)


@dataclass(slots=True, eq=False)
class Source:
    """A file of the program."""

    path: str
    text: str
    statements: list[Statement] = field(default_factory=list)
    by_line: dict[int, Statement] = field(default_factory=dict)
    number: int = -1


_sources: dict[str, Source | None] = {}
COMMAND = "<string>"
"""The file of a program that was given by ``-c``, and of what data classes and named tuples generate."""


def fresh() -> None:
    """Another recording begins: files may have changed, and their numbers are its own."""
    _sources.clear()
    linecache.checkcache()


def source_of(code: CodeType) -> Source | None:
    """The file that a code object was compiled from; None where its text cannot be had."""
    name = code.co_filename
    if name not in _sources:
        text = _text(name)
        _sources[name] = None if text is None else parse(text, name)
    found = _sources[name]
    if name == COMMAND and found is not None and code not in _codes(found.text):
        return None
    return found


@cache
def _codes(text: str) -> set[CodeType]:
    """The code objects that ``python -c`` makes of a program; others have the name of its file, too."""
    found, made = set(), [compile(text, COMMAND, "exec", dont_inherit=True)]
    while made:
        code = made.pop()
        found.add(code)
        made += [one for one in code.co_consts if isinstance(one, CodeType)]
    return found


def _text(name: str) -> str | None:
    lines = linecache.getlines(name)
    if lines:
        return "".join(lines)
    words = sys.orig_argv
    if name == COMMAND and "-c" in words[:-1]:
        return words[words.index("-c") + 1]
    return None


def parse(text: str, name: str = "<text>") -> Source | None:
    """Statements and loops of a text; None where it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    found = Source(name if name.startswith("<") else os.path.abspath(name), text)
    _walk(found, tree.body, (), "")
    for number, statement in enumerate(found.statements):
        statement.number = number
        _takes_in(statement, found.by_line.get(statement.line))
        for line in range(statement.line, statement.end_line + 1):
            found.by_line[line] = statement  # inner ones come later and win
    return found


def _takes_in(statement: Statement, before: Statement | None) -> None:
    """``a = f(); b = g()`` is one statement that assigns both, and so is a loop in one line."""
    if before is None or isinstance(
        before.node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    ):
        return
    statement.stores = tuple(dict.fromkeys((*before.stores, *statement.stores)))
    if not any(_bodies(before.node)):
        statement.beside = before.nodes


def _walk(source: Source, body: list[ast.stmt], loops: tuple[Loop, ...], function: str) -> None:
    for node in body:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        inner = list(_bodies(node))
        last = (node.end_lineno or node.lineno) if not inner else _head_end(node, inner[0])
        statement = Statement(source, first, max(first, last), loops, node)
        statement.stores = tuple(dict.fromkeys(_stored(node)))
        source.statements.append(statement)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            within = f"{function}.{node.name}" if function else node.name
            _walk(source, node.body, (), within)
            continue
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            loop = Loop(node.lineno, node.end_lineno or node.lineno, function, node)
            statement.heads = loop
            statement.loops = (*loops, loop)
            _walk(source, node.body, statement.loops, function)
            _walk(source, node.orelse, loops, function)
            continue
        for one in inner:
            _walk(source, one, loops, function)


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if body and isinstance(body, list):
            yield body
    for handler in getattr(node, "handlers", []):
        yield handler.body
    for case in getattr(node, "cases", []):
        yield case.body


def _head_end(node: ast.stmt, body: list[ast.stmt]) -> int:
    """The last line of a compound statement's head."""
    parts = [getattr(node, name, None) for name in ("test", "iter", "subject", "args", "returns")]
    parts += [item.context_expr for item in getattr(node, "items", [])]
    ends = [
        inner.end_lineno
        for one in parts
        if isinstance(one, ast.AST)
        for inner in ast.walk(one)
        if isinstance(inner, (ast.expr, ast.arg))
    ]
    return min(
        max([node.lineno, *(end for end in ends if end)]), max(body[0].lineno - 1, node.lineno)
    )


def _stored(node: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For, ast.AsyncFor)):
        targets = [node.target]
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        # y.backward() and x.requires_grad_() change what they are called on.
        inner = node.value.func
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, (ast.Name, ast.Attribute)):
            targets = [inner.value]
    for target in targets:
        yield from _names(target)


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute):
        if isinstance(target.value, ast.Name):
            yield f"{target.value.id}.{target.attr}"
    elif isinstance(target, (ast.Tuple, ast.List)):
        for one in target.elts:
            yield from _names(one)
    elif isinstance(target, (ast.Starred, ast.Subscript)):
        yield from _names(target.value)
    elif isinstance(target, ast.NamedExpr):
        yield from _names(target.target)
