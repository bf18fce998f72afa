"""The documentation as data: pages, headings, links, code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A piece of a page to run: its first line in the file, its text, the error it must raise."""

    line: int
    text: str
    raises: str | None


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them, and explicit ones."""
    text = FENCE.sub("", page.read_text())
    found = set(re.findall(r'(?:id="|\{ *#)([\w-]+)', text))
    for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE):
        plain = re.sub(r"\{.*\}|[`*]", "", heading).strip().lower()
        found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain)))
    return found


def links(page: Path) -> Iterator[str]:
    """Every link and picture target of a page, code left out."""
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text()))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'(?:src|href|srcset)="([^"]+)"', text)


def blocks(page: Path) -> Iterator[Block]:
    """What a page runs, in order.

    Every ```` ```python ```` block runs, unless the line above it is ``<!-- not run: REASON -->``. With
    ``<!-- raises: NAME -->`` above it, it must raise that error. ``<!-- setup CODE -->`` runs unseen.
    """
    text = page.read_text()
    pattern = (
        r"<!-- setup\n(?P<setup>.*?)-->"
        r"|(?:<!-- (?P<mark>[^\n]*?) -->\n+)?^```python\n(?P<code>.*?)^```$"
    )
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        kind = "setup" if found["setup"] is not None else "code"
        mark = found["mark"] or ""
        if mark.startswith("not run:"):
            continue
        line = text.count("\n", 0, found.start(kind)) + 1
        raises = mark.removeprefix("raises: ") if mark.startswith("raises: ") else None
        yield Block(line, found[kind], raises)
