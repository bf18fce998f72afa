"""``loopwright report RUN``: the run's page again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(run: Path, /, *, open: Annotated[bool, Parameter(negative=())] = False) -> None:  # noqa: A002
    """Write a run's report.html again.

    Args:
        run: A run folder.
        open: Open the page in the browser.
    """
    from loopwright.cli.terminal import show_page, write_page
    from loopwright.report.html import render
    from loopwright.train.folder.reading import read_run

    page = run / "report.html"
    write_page(page, render(read_run(run)))
    print(f"wrote {page}")
    if open:
        show_page(page)
