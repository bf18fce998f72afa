"""The runs of this process: one on an older one's folder closes that; all are closed at its end."""

from __future__ import annotations

import atexit
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.train.run import Run

_RUNS: weakref.WeakSet[Run] = weakref.WeakSet()


def _close_all() -> None:
    for run in list(_RUNS):
        run.lifecycle.process_ends()
        run.close()


def add(run: Run) -> None:
    """Note a run, without keeping it alive."""
    _RUNS.add(run)
    # What was registered last runs first: before the group of processes that the run speaks through is ended.
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def close_older(folder: Path) -> None:
    """Close the run of this process that has the folder, if there is one."""
    for run in list(_RUNS):
        same = run.folder is not None and run.folder.resolve() == folder.resolve()
        if same and not run.closed:
            run.close()
