"""The explanation inside a program that runs on its own; it begins and ends with the process."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.observe import process

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording

START = "loopwright.explainer.process:start"
SETTINGS = "LOOPWRIGHT_EXPLAIN"
"""JSON: the arguments of ``Recording``."""

_recording: Recording | None = None


def start() -> None:
    """Record this process; called once torch has been imported."""
    global _recording
    # Here: `loopwright explain` reads this module's names, and itself needs no torch (1.9 s to import).
    import loopwright.explainer.build  # noqa: F401  not only when the program ends
    from loopwright.explainer.record import Recording

    settings = json.loads(os.environ.get(SETTINGS, "{}"))
    _recording = Recording(**settings)
    process.at_end(_write)
    process.after_fork(_after_fork)
    _recording.start()


def _after_fork() -> None:
    """A forked process (a loader's worker) is not recorded."""
    global _recording
    if _recording is not None:
        sys.settrace(None)
        _recording.over = True
        _recording.lines.running = False
        _recording.observer.uninstall()
        _recording = None


def _write() -> None:
    recording = _recording
    if recording is None:
        return
    recording.stop()
    if not recording.observer.counts and not recording.setup:
        return
    from loopwright.explainer.build import build

    record = build(recording)
    record.program.exception = process.ended_by()
    folder = Path(os.environ[process.FOLDER])
    temporary = folder / f"{os.getpid()}.part"
    try:
        temporary.write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")
        temporary.replace(folder / f"{os.getpid()}.json")
    except OSError as error:
        print(f"loopwright: the explanation could not be written: {error}", file=sys.stderr)
