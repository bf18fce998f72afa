"""A program says where it is, so that whoever kills it knows where it was; without a watcher, nothing.

``FAULTS_BASE`` names a folder, ``FAULTS_CONTROL`` the control file in it; with ``FAULTS_LOG`` the shim
writes its log there, with ``FAULTS_ONLY`` only operations on paths that end so may fail.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import shim

BASE = os.environ.get("FAULTS_BASE")
_control: shim.Control | None = None


def begin() -> None:
    """Take up the control file, let the shim watch the working folder, limit the files' size."""
    global _control
    if "FAULTS_FILE_SIZE" in os.environ:
        limit = int(os.environ["FAULTS_FILE_SIZE"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if BASE is not None:
        log = Path(BASE, "log") if "FAULTS_LOG" in os.environ else None
        _control = shim.Control(Path(BASE, os.environ["FAULTS_CONTROL"]))
        shim.arm(Path.cwd(), _control.path, log, only=os.environ.get("FAULTS_ONLY", ""))
    at("start")


def at(place: str) -> None:
    """Say where the program is now, and die there if that was asked for."""
    if _control is not None:
        if place == "done":
            _control.done_ns = time.monotonic_ns()
        _control.where = shim.PLACES.index(place)
        if _control.die_at == _control.where and _control.bodies > _control.die_after:
            os.kill(os.getpid(), signal.SIGKILL)


def body(turn: int) -> None:
    """Say that the body of a turn begins."""
    if _control is not None:
        if _control.first_turn < 0:
            _control.first_turn = turn
            _control.count_at_first_body = _control.count
            _control.first_body_ns = time.monotonic_ns()
        _control.turn = turn
        _control.bodies += 1
        at("body")
