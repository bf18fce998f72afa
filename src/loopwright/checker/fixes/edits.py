"""Changes to one file: lines put in, statements moved, expressions exchanged; all else stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst

from loopwright.checker.fixes.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A line of code before or after a statement."""

    source: Source
    code: str
    anchor: Any
    before: bool


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A statement goes, with the comments above and beside it, before or after another one."""

    source: Source
    statement: Any
    anchor: Any
    before: bool


@dataclass(frozen=True, slots=True, eq=False)
class Replace:
    """Another expression or statement in the place of one; None takes an argument out."""

    source: Source
    node: Any
    new: Any


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """``import MODULE`` after the imports at the top."""

    source: Source
    module: str


Edit = Insert | Move | Replace | Import


def collide(new: Edit, known: Iterable[Edit]) -> bool:
    """True where one of two changes would lose the other."""
    return any(new.source is one.source and (_loses(new, one) or _loses(one, new)) for one in known)


def _loses(one: Edit, other: Edit) -> bool:
    """A statement that goes away takes what was to happen to it along."""
    changed = other.source.statement(other.node) if isinstance(other, Replace) else None
    if isinstance(one, Move):
        return one.statement is changed or (
            isinstance(other, Insert | Move)
            and one.statement in (other.anchor, getattr(other, "statement", None))
        )
    return changed is not None and isinstance(one, Replace) and one.node is other.node  # type: ignore[union-attr]


def apply(source: Source, edits: Sequence[Edit]) -> bytes:
    """The text of a file with all edits made."""
    change = _Apply(source, edits)
    changed = source.module.visit(change)
    assert isinstance(changed, cst.Module)
    for one in edits:
        if isinstance(one, Import):
            changed = _with_import(changed, one.module)
    return changed.bytes


def _with_import(module: cst.Module, name: str) -> cst.Module:
    line = cst.parse_statement(f"import {name}\n")
    last = 0
    for index, one in enumerate(module.body):
        if not isinstance(one, cst.SimpleStatementLine):
            break
        if isinstance(one.body[0], cst.Import | cst.ImportFrom):
            if _is_plain_import(one.body[0]):
                return module.with_changes(body=_inserted(module.body, index, line))
            last = index + 1
        elif index or not _is_text(one.body[0]):
            break
        else:
            last = 1  # the docstring
    return module.with_changes(body=[*module.body[:last], line, *module.body[last:]])


def _inserted(body: Sequence[Any], index: int, line: Any) -> list[Any]:
    """A line in the place of one, whose leading lines it takes over."""
    old = body[index]
    line = line.with_changes(leading_lines=old.leading_lines)
    return [*body[:index], line, old.with_changes(leading_lines=()), *body[index + 1 :]]


def _is_plain_import(one: cst.BaseSmallStatement) -> bool:
    return isinstance(one, cst.Import)


def _is_text(one: cst.BaseSmallStatement) -> bool:
    return isinstance(one, cst.Expr) and isinstance(
        one.value, cst.SimpleString | cst.ConcatenatedString
    )


class _Apply(cst.CSTTransformer):
    def __init__(self, source: Source, edits: Sequence[Edit]):
        super().__init__()
        self.source = source
        self.before: dict[Any, list[Any]] = {}
        self.after: dict[Any, list[Any]] = {}
        self.gone: set[Any] = set()
        self.new: dict[Any, Any] = {}
        for one in edits:
            if isinstance(one, Replace):
                self.new[one.node] = one.new
            elif isinstance(one, Insert | Move):
                if isinstance(one, Move):
                    self.gone.add(one.statement)
                side = self.before if one.before else self.after
                side.setdefault(one.anchor, []).append(self._line(one))

    def _line(self, edit: Insert | Move) -> Any:
        """What is put in, as a line or a compound statement of its own."""
        if isinstance(edit, Insert):
            return cst.parse_statement(
                edit.code + "\n", config=self.source.module.config_for_parsing
            )
        line = self.source.parent(edit.statement)
        if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
            return line.with_changes(leading_lines=_from_comment(line.leading_lines)[1])
        if isinstance(edit.statement, cst.BaseSmallStatement):
            return cst.SimpleStatementLine([_plain(edit.statement)])
        return edit.statement

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        """Exchange, take away, put in."""
        original, updated = original_node, updated_node
        if original in self.new:
            new = self.new[original]
            return cst.RemoveFromParent() if new is None else new
        updated = super().on_leave(original, updated)
        if isinstance(original, cst.SimpleStatementLine | cst.SimpleStatementSuite):
            if not any(self._is_touched(one) for one in original.body):
                return updated
            if isinstance(original, cst.SimpleStatementLine) and len(original.body) == 1:
                return self._around(original.body[0], updated)
            return self._in_one_line(original, updated)
        if isinstance(original, cst.BaseCompoundStatement) and self._is_touched(original):
            return self._around(original, updated)
        return updated

    def _is_touched(self, statement: Any) -> bool:
        return statement in self.gone or statement in self.before or statement in self.after

    def _around(self, statement: Any, line: Any) -> Any:
        """Lines before and after a line or a compound statement, which may be gone itself."""
        before, after = self.before.get(statement, []), self.after.get(statement, [])
        lines = [*before, *after] if statement in self.gone else [*before, line, *after]
        if not lines:
            return cst.RemoveFromParent()
        if before and statement not in self.gone:
            blank, rest = _from_comment(line.leading_lines)
            first = lines[0]
            lines[0] = first.with_changes(leading_lines=[*blank, *first.leading_lines])
            lines[len(before)] = line.with_changes(leading_lines=rest)
        return cst.FlattenSentinel(lines)

    def _in_one_line(self, original: Any, updated: Any) -> Any:
        """Small statements between semicolons."""
        body: list[Any] = []
        for old, new in zip(original.body, updated.body, strict=True):
            for line in self.before.get(old, []):
                body += line.body
            if old not in self.gone:
                body.append(new)
            for line in self.after.get(old, []):
                body += line.body
        if not body:
            if isinstance(original, cst.SimpleStatementLine):
                return cst.RemoveFromParent()
            body = [cst.Pass()]
        return updated.with_changes(body=[_plain(one) for one in body])


def _plain(statement: Any) -> Any:
    """A small statement without the semicolon that it had."""
    return statement.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)


def _from_comment(lines: Sequence[cst.EmptyLine]) -> tuple[list[Any], list[Any]]:
    """Blank lines, and the rest from the first comment on."""
    for index, one in enumerate(lines):
        if one.comment is not None:
            return list(lines[:index]), list(lines[index:])
    return list(lines), []
