"""Source lines for a frame around a place, and paths as people write them."""

from __future__ import annotations

import linecache
import os

from loopwright.events import Place


def shown_path(path: str) -> str:
    """Relative to the working folder where it lies below it."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def source_line(path: str, number: int) -> str:
    """A line without its end; empty where there is none."""
    return linecache.getline(path, number).rstrip("\n\r").expandtabs(4)


def span(place: Place) -> tuple[int, int]:
    """First and last column to underline on the place's first line, from 0, end exclusive."""
    line = source_line(place.file, place.line)
    start = max(place.column - 1, 0)
    if start == 0 and place.end_column <= 1:
        start = len(line) - len(line.lstrip())
        return start, len(line)
    end = place.end_column - 1 if place.end_line in (0, place.line) else len(line)
    return start, max(min(end, len(line)), start + 1)
