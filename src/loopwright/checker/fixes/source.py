"""One file of the program as a tree that gives its text back to the last space, and places in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider

from loopwright.events import Place

Statement: TypeAlias = cst.BaseSmallStatement | cst.BaseCompoundStatement
"""What can be moved: a compound statement, or one of the small ones of a line."""
SUITES = (cst.Module, cst.IndentedBlock, cst.SimpleStatementSuite)
LOOPS = (cst.For, cst.While)


class Source:
    """A parsed file.

    Raises:
        ValueError: it is no Python that libcst can give back as it was.
    """

    def __init__(self, path: Path, content: bytes):
        self.path = path
        self.content = content
        try:
            parsed = cst.parse_module(content)
        except cst.ParserSyntaxError as error:
            raise ValueError(f"{path.name} cannot be parsed") from error
        wrapper = MetadataWrapper(parsed, unsafe_skip_copy=True)
        self.module = wrapper.module
        if self.module.bytes != content:
            raise ValueError(f"{path.name} cannot be written back as it was")
        self._ranges: Any = wrapper.resolve(PositionProvider)
        self._parents: Any = wrapper.resolve(ParentNodeProvider)

    # From places to nodes and back

    def call(self, place: Place) -> cst.Call | None:
        """The call at a place: with exactly its extent, or the smallest one that begins there."""
        begins = [
            (node, found)
            for node, found in self._ranges.items()
            if isinstance(node, cst.Call) and _start(found) == (place.line, place.column - 1)
        ]
        exact = [node for node, found in begins if _end(found) == _wanted_end(place)]
        return exact[0] if exact else _smallest(begins)

    def expression(self, place: Place) -> cst.BaseExpression | None:
        """The expression with exactly the extent of a place."""
        for node, found in self._ranges.items():
            if (
                isinstance(node, cst.BaseExpression)
                and _start(found) == (place.line, place.column - 1)
                and _end(found) == _wanted_end(place)
            ):
                return node
        return None

    def small_statement(self, line: int) -> cst.BaseSmallStatement | None:
        """The only small statement that begins on a line."""
        found = [
            node
            for node, where in self._ranges.items()
            if isinstance(node, cst.BaseSmallStatement) and where.start.line == line
        ]
        return found[0] if len(found) == 1 else None

    def code(self, node: cst.CSTNode) -> str:
        """Its text."""
        return self.module.code_for_node(node)

    def position(self, node: cst.CSTNode) -> tuple[int, int]:
        """Line and column where it begins, for telling what comes first."""
        return _start(self._ranges[node])

    # Around a node

    def parent(self, node: cst.CSTNode) -> Any:
        """The node that it is a part of; None for the module."""
        return self._parents.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[Any]:
        """From its parent to the module."""
        above = self.parent(node)
        while above is not None:
            yield above
            above = self.parent(above)

    def statement(self, node: cst.CSTNode) -> Any:
        """The innermost statement that a node is in; an ``elif`` belongs to its ``if``."""
        for one in (node, *self.ancestors(node)):
            if isinstance(one, cst.BaseSmallStatement):
                return one
            if isinstance(one, cst.BaseCompoundStatement) and isinstance(self.parent(one), SUITES):
                return one
        raise AssertionError("every expression is in a statement")

    def suite(self, statement: cst.CSTNode) -> Any:
        """The block that a statement stands in."""
        above = self.parent(statement)
        return self.parent(above) if isinstance(above, cst.SimpleStatementLine) else above

    def chain(self, node: cst.CSTNode) -> list[tuple[Any, Any]]:
        """(suite, statement) from the module inwards to the statement that a node is in."""
        found = []
        at = self.statement(node)
        while True:
            suite = self.suite(at)
            found.append((suite, at))
            if isinstance(suite, cst.Module):
                return found[::-1]
            at = self.statement(suite)

    def function(self, node: cst.CSTNode) -> Any:
        """The function whose code a node is part of; None at the top."""
        return next((n for n in self.ancestors(node) if isinstance(n, cst.FunctionDef)), None)

    def loops(self, node: cst.CSTNode) -> list[Any]:
        """Loops around a node within its function, the innermost first."""
        found = []
        for one in self.ancestors(node):
            if isinstance(one, cst.FunctionDef):
                break
            if isinstance(one, LOOPS):
                found.append(one)
        return found

    def meeting(self, first: cst.CSTNode, second: cst.CSTNode) -> tuple[Any, Any] | None:
        """The statements that hold two nodes in the deepest block that holds both; None if it is one."""
        ours, theirs = dict(self.chain(first)), dict(self.chain(second))
        common = [suite for suite in ours if suite in theirs]
        a, b = ours[common[-1]], theirs[common[-1]]
        return None if a is b else (a, b)

    def beside(self, first: cst.CSTNode, second: cst.CSTNode) -> bool:
        """True when the statements of two nodes stand in the same block."""
        return self.suite(self.statement(first)) is self.suite(self.statement(second))

    def statements(self, suite: Any) -> list[Any]:
        """The statements of a block, the small ones of a line one by one."""
        found: list[Any] = []
        for one in suite.body:
            found += one.body if isinstance(one, cst.SimpleStatementLine) else [one]
        return found

    def calls(self, node: cst.CSTNode, method: str) -> list[cst.Call]:
        """Calls of a method of that name at or below a node."""
        found: list[cst.Call] = []

        class Collect(cst.CSTVisitor):
            def visit_Call(self, node: cst.Call) -> None:  # noqa: N802  libcst's name
                if isinstance(node.func, cst.Attribute) and node.func.attr.value == method:
                    found.append(node)

        node.visit(Collect())
        return found

    def all(self, kind: type) -> list[Any]:
        """Every node of a kind, in the order of the text."""
        return sorted((n for n in self._ranges if isinstance(n, kind)), key=self.position)


def receiver(call: cst.Call | None, method: str) -> cst.BaseExpression | None:
    """``opt`` of ``opt.step()``; None for another call."""
    if call is not None and isinstance(call.func, cst.Attribute) and call.func.attr.value == method:
        return call.func.value
    return None


def _start(found: CodeRange) -> tuple[int, int]:
    return found.start.line, found.start.column


def _end(found: CodeRange) -> tuple[int, int]:
    return found.end.line, found.end.column


def _wanted_end(place: Place) -> tuple[int, int]:
    return place.end_line or place.line, place.end_column - 1


def _smallest(found: list[tuple[Any, CodeRange]]) -> Any:
    return min(found, key=lambda pair: _end(pair[1]), default=(None, None))[0]
