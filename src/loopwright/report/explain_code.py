"""Source as HTML, line by line: highlighted by Pygments, names of known tensors marked."""

from __future__ import annotations

from html import escape

from markupsafe import Markup
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

CLASSES: tuple[tuple[_TokenType, str], ...] = (
    (Keyword, "k"),
    (String, "s"),
    (Comment, "c"),
    (Number, "m"),
    (Operator.Word, "k"),
    (Name.Builtin, "b"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Name.Decorator, "f"),
)


def highlighted(text: str, tensors: set[str]) -> list[Markup]:
    """Each line as HTML; a name in ``tensors`` can be hovered and focused."""
    lines: list[str] = [""]
    before = ""
    for kind, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(text.expandtabs(4)):
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append("")
            if part:
                lines[-1] += _token(kind, part, tensors, after_dot=before == ".")
        before = value
    return [Markup(line) for line in lines]  # noqa: S704  every part is escaped


def _token(kind: _TokenType, part: str, tensors: set[str], *, after_dot: bool) -> str:
    shown = escape(part)
    if kind in Name and not after_dot and part in tensors:
        return f'<span class="t" data-t="{shown}">{shown}</span>'
    for family, name in CLASSES:
        if kind in family:
            return f'<i class="{name}">{shown}</i>'
    return shown
