"""The check inside a program that runs on its own: begun by ``observe.process``, ended with its process.

Each process writes what it found into the check's folder; ``merge`` reads them when all have ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.observe import process

if TYPE_CHECKING:
    from loopwright.checker.session import Session

STEPS = "LOOPWRIGHT_STEPS"
START = "loopwright.checker.process:start"

_session: Session | None = None
_forked = False


def start() -> None:
    """Observe this process; called once torch has been imported."""
    _renew()
    process.at_end(_write)
    process.after_fork(_after_fork)


def _renew() -> None:
    global _session
    # Here: `loopwright check` reads this module's names, and itself needs no torch (1.9 s to import).
    from loopwright.checker.session import Session

    steps = os.environ.get(STEPS)
    _session = Session(steps=int(steps) if steps else None)
    _session.accounts.collectives.folder = Path(os.environ[process.FOLDER])
    _session.start()


def _after_fork() -> None:
    """A forked process begins with empty books: a DataLoader's worker writes none, a rank its own.

    Where the observation has ended before the fork, what was found is the parent's to tell.
    """
    global _forked, _session
    if _session is not None and not _session.observer.installed:
        _session = None
    elif _session is not None:
        _forked = True
        _session.observer.uninstall()
        _renew()


def _write() -> None:
    session = _session
    if session is None:
        return
    well = process.ended_by() is None
    found = session.end(ended_well=well)
    if session.accounts.complete:
        session.accounts.collectives.end(well=well)
    if not session.observer.counts and not found and _forked:
        return  # a DataLoader's worker
    record = {
        "findings": [dataclasses.asdict(one) for one in found],
        **session.plain(),
    }
    folder = Path(os.environ[process.FOLDER])
    target = folder / f"{os.getpid()}.json"
    temporary = folder / f"{os.getpid()}.part"
    try:
        temporary.write_text(json.dumps(record, default=str))
        temporary.replace(target)
    except OSError as error:
        print(f"loopwright: the findings could not be written: {error}", file=sys.stderr)
