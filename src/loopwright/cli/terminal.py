"""What verbs print on, and the pages that they write and open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Return a console on stdout, without colours and with room for a table where it is no terminal."""
    import rich.console

    class Loud(rich.console.Console):
        def on_broken_pipe(self) -> None:
            """Let the error through: rich would end the process without a word."""
            raise  # noqa: PLE0704  called from rich's except clause

    shown = Loud(highlight=False)
    if not shown.is_terminal and "COLUMNS" not in os.environ:
        shown.width = 120
    return shown


def write_page(path: Path, text: str) -> None:
    """Write a page so that it is there whole or not at all.

    Raises:
        DiskError: no room, no permission, or something else is in the way.
    """
    from loopwright.train.folder.plain_files import write_text

    write_text(path, text)


def show_page(path: Path) -> None:
    """Open a page in the browser; where there is none, say where the page is."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser to open it with: {path.resolve()}")
