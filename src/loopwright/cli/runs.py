"""``loopwright runs DIR``: the runs below a folder, as a table and side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopwright.errors import UsageError


def runs(
    folder: Path = Path("runs"),
    /,
    *,
    html: Path | None = None,
    open: Annotated[bool, Parameter(negative=())] = False,  # noqa: A002
) -> None:
    """Compare the runs of a folder: a table, or a page of their curves.

    Args:
        folder: Where the run folders are, at any depth.
        html: Also write a page with the runs' curves side by side.
        open: Open that page in the browser.
    """
    from loopwright.cli.output import whole
    from loopwright.cli.terminal import console, show_page
    from loopwright.report import compare, terminal
    from loopwright.train.folder.reading import read_run

    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}", slug="no-such-run", where="command line")
    found = run_folders(folder)
    if not found:
        raise UsageError(
            f"there is no run in {folder}",
            slug="no-such-run",
            where="command line",
            hint="loopwright train digits makes one in runs/digits",
        )
    records = [read_run(one) for one in found]
    shown = console()
    shown.print(terminal.runs(records, width=shown.width))
    if html is None and not open:
        return
    page = html or folder / "runs.html"
    with whole(page) as new:
        new.write_text(compare.render(records), encoding="utf-8")
    print(f"\nwrote {page}")
    if open:
        show_page(page)


def run_folders(folder: Path) -> list[Path]:
    """Every run folder at or below ``folder``; numbered ones in the order of their numbers."""
    found = []
    for place, inside, files in os.walk(folder):
        if "run.json" in files:
            found.append(Path(place))
            inside.clear()
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.parts]
