"""``loopwright verify RUN``: what in a run's folder is as it was written."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopwright.errors import CheckpointError


def verify(run: Path, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Check a run folder byte by byte, and say what a resume would take.

    Changes nothing, follows no link, and may be used while the run is training.

    Args:
        run: A run folder.
        json: Print one JSON object instead of a table.
    """
    from loopwright.cli.terminal import console
    from loopwright.report import terminal
    from loopwright.train.folder.verification import verification

    found = verification(run)
    if json:
        print(json_format.dumps({"sound": not found.damaged, **asdict(found)}, indent=1))
    else:
        console().print(terminal.verification(found))
    if found.damaged:
        names = [part.name for part in found.damaged]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        raise CheckpointError(
            f"damaged: {', '.join(names[:2])}{more}",
            slug="run-folder-damaged",
            where=str(run),
            hint=f"the same command {found.resume}",
        )
