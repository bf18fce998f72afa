"""Whose line it was: the user's frames of a traceback, without the library's and torch's."""

from __future__ import annotations

import re
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from types import TracebackType

PACKAGE = str(Path(__file__).resolve().parent.parent)
_IN_TEXT = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)$')


@cache
def is_users(filename: str) -> bool:
    """True for a file that the user wrote: not Loopwright's, not installed, not Python's own."""
    if filename.startswith("<"):
        return False
    path = str(Path(filename).resolve())
    if path.startswith(PACKAGE):
        return False
    if {"site-packages", "dist-packages"} & set(Path(path).parts):
        return False
    return not path.startswith(sysconfig.get_paths()["stdlib"])


def users_frames(tb: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames between the first and the last line of the user's, the library's left out."""
    frames = traceback.extract_tb(tb)
    mine = [index for index, frame in enumerate(frames) if is_users(frame.filename)]
    if not mine:
        return []
    between = frames[mine[0] : mine[-1] + 1]
    return [frame for frame in between if not frame.filename.startswith(PACKAGE)]


def users_frames_in_text(text: str) -> list[traceback.FrameSummary]:
    """The same from a traceback that arrived as text (a DataLoader's worker sends its own so)."""
    frames = []
    for line in text.splitlines():
        match = _IN_TEXT.match(line)
        if match and is_users(match["file"]):
            frames.append(traceback.FrameSummary(match["file"], int(match["line"]), match["name"]))
    return frames


def place(frame: traceback.FrameSummary) -> str:
    """``recipe.py:12``; relative to the working folder where it lies below it."""
    path = Path(frame.filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.lineno}"
