"""Show our docstrings as Markdown: examples, literal blocks and tables as code (an extension of griffe)."""

from __future__ import annotations

import re

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
TABLE = re.compile(
    r"^={2,}(?: +={2,})+\n(?:.*\n)+?={2,}(?: +={2,})+$(?=\n\s*\n|\n?\Z)", re.MULTILINE
)


class Docstrings(griffe.Extension):
    """Change each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Rewrite the text of one object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Fence what stands at the margin as an example or a table; ``::`` becomes a colon."""
    text = TABLE.sub(lambda found: f"```text\n{found[0]}\n```", text)
    text = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
    return re.sub(r"::(?=\n\n)", ":", text)
