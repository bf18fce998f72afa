"""The difference of two explanations in the terminal."""

from __future__ import annotations

import textwrap

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loopwright.events.explained import DifferenceRecord, LineChange
from loopwright.report.difference_view import TITLES, aftermath, headline, told, when, where
from loopwright.report.terminal import _clean, to_text

output_file_extension = ".txt"

WIDTH = 100
COLOURS = {"gone": "red", "new": "green", "does": "magenta", "numbers": "cyan"}


def render(record: DifferenceRecord, *, width: int = WIDTH) -> str:
    """The whole difference as plain text, at most ``width`` columns wide."""
    return to_text(difference(record, width=width), width=width)


def difference(record: DifferenceRecord, *, width: int = WIDTH) -> RenderableType:
    """Each changed line with what it did before and does now, then numbers side by side."""
    title = f"{record.before} → {record.after}"
    parts: list[RenderableType] = [
        Text.assemble((_clean(title), "bold"), ("  " + headline(record), "dim")),
        Text(),
    ]
    for change in told(record):
        parts += [*_change(change, width), Text()]
    if aftermath(record):
        parts += [_wrapped(aftermath(record), width, "dim"), Text()]
    if record.facts:
        table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0), pad_edge=False)
        for name in ("", "before", "after"):
            table.add_column(name, justify="left" if not name else "right")
        for row in record.facts:
            table.add_row(*map(_clean, row))
        parts += [table, Text()]
    parts += [_wrapped(f"note: {note}", width, "yellow") for note in record.notes]
    return Group(*parts)


def _change(change: LineChange, width: int) -> list[RenderableType]:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f"{TITLES[change.change]}", COLOURS[change.change])
    more = ", ".join(one for one in (f"line {where(change)}", when(change)) if one)
    head.append(f"  {more}", "dim")
    parts: list[RenderableType] = [head]
    if change.text_before == change.text_after:
        parts.append(_source("  ", change.text_after, width, ""))
    else:
        parts += [
            _source(sign, text, width, style)
            for sign, text, style in (("- ", change.text_before, "red"), ("+ ", change.text_after, "green"))
            if text
        ]  # fmt: skip
    parts += [_sentence("before", one, width) for one in change.before]
    parts += [_sentence("now", one, width) for one in change.after]
    return parts


def _source(sign: str, text: str, width: int, style: str) -> Text:
    line = f"  {sign}{_clean(text)}"
    return Text(line if len(line) <= width else line[: width - 1] + "…", style or "bold")


def _sentence(label: str, sentence: str, width: int) -> Text:
    words = _clean(sentence.replace("**", "").replace("`", ""))
    lines = textwrap.wrap(words, width - 14)
    return Text(
        "\n".join((f"      {label if not at else '':<7} " if not at else " " * 14) + line
                  for at, line in enumerate(lines)),
        "dim" if label == "before" else "",
    )  # fmt: skip


def _wrapped(words: str, width: int, style: str) -> Text:
    return Text("\n".join(textwrap.wrap(_clean(words), width, subsequent_indent="  ")), style=style)
