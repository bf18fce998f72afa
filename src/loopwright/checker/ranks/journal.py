"""The journal of a rank: which collectives it called, on disk while it runs, whatever ends the process.

Where ranks wait for each other for ever, it is a signal that ends most of them, and nothing of theirs runs
any more. So the calls are written into a mapped file, which outlives the process and needs no system call. It
has room for the first calls and for the last ones. A second file has one line of JSON for each group and
each kind of call, numbered from 1; the slots of the first file name these numbers.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIRST, LAST = 4096, 1024
"""Slots for the first calls, and for the last ones after them, which are written over in turn."""
BEGUN, RETURNED, RAISED = 1, 2, 3
ZERO, SOMETHING = 1, 2
"""What a rank brought to a sum, where that was looked at; else 0."""
ENDED = {0: None, 1: True, 2: False}
_HEAD = struct.Struct("<dQQIIB")
_SLOT = struct.Struct("<QQIIBB2xI")
_ROOM = 64


class Journal:
    """Written by the process itself.

    Args:
        folder: the check's.
        told: facts of the process, the first line.
    """

    def __init__(self, folder: Path, told: dict[str, Any]):
        stem = folder / str(os.getpid())
        self._names = Path(f"{stem}.names")
        self._numbered = 0
        size = _ROOM + (FIRST + LAST) * _SLOT.size
        with open(f"{stem}.calls", "w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self.calls = 0
        self.latest = self._doing = self._ended = 0
        self.line(told)
        self._head()

    def line(self, told: dict[str, Any]) -> int:
        """Note something that happens rarely; returns its number."""
        with self._names.open(
            "a"
        ) as file:  # closed each time: the program's end finds nothing of ours
            file.write(json.dumps(told) + "\n")
        self._numbered += 1
        return self._numbered

    def begin(
        self, group: int, index: int, number: int, call: int, brings: int = 0, looks: int = 0
    ) -> int:
        """A rank calls its ``index``-th collective of a group; returns the place of its slot."""
        slot = self.calls if self.calls < FIRST else FIRST + (self.calls - FIRST) % LAST
        place = _ROOM + slot * _SLOT.size
        _SLOT.pack_into(self._map, place, index, number, group, call, BEGUN, brings, looks)
        self.calls += 1
        self._head()
        return place

    def end(self, place: int, *, raised: bool) -> None:
        """That call has come back."""
        self._map[place + 24] = RAISED if raised else RETURNED
        self._head()

    def doing(self, call: int, latest: int) -> None:
        """What the rank does now, 0 for nothing, and how many collectives PyTorch has counted."""
        self._doing, self.latest = call, latest
        self._head()

    def close(self, *, well: bool) -> None:
        """The process ends by itself."""
        self._ended = 1 if well else 2
        self._head()

    def _head(self) -> None:
        _HEAD.pack_into(
            self._map, 0, time.time(), self.calls, self.latest, self._doing, 0, self._ended
        )


@dataclass
class Call:
    """One call of one rank."""

    number: int
    """PyTorch's own count of the group's collectives when it was made."""
    told: dict[str, Any]
    state: int
    brings: int = 0
    looks: int = 0
    """A number of the values of the parameter that it is about; 0 where that is not known."""


@dataclass
class Book:
    """The calls of one rank in one group: index -> call, with a gap where there are many."""

    told: dict[str, Any] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)

    @property
    def length(self) -> int:
        """How many calls there were."""
        return max(self.calls) + 1 if self.calls else 0

    @property
    def gap(self) -> bool:
        """Whether there were more than are kept."""
        return self.length > len(self.calls)


@dataclass
class Kept:
    """What is read of one process."""

    told: dict[str, Any]
    worlds: list[dict[str, Any]]
    """Each time that the process became a rank: ``rank`` and ``size``."""
    books: list[Book]
    last: float
    """When it last called something."""
    latest: int
    doing: dict[str, Any] | None
    files: list[str]
    ended: bool | None
    """By itself, with or without an exception; None where something ended it."""


def read(folder: Path) -> list[Kept]:
    """The journals of all processes."""
    return [_read(file) for file in sorted(folder.glob("*.names"))]


def files(journals: list[Kept]) -> list[str]:
    """The program's files that collectives were called from."""
    return list(dict.fromkeys(file for one in journals for file in one.files))


def _read(names: Path) -> Kept:
    lines = [json.loads(one) for one in names.read_text().splitlines() if one.endswith("}")]
    calls = names.with_suffix(".calls").read_bytes()
    last, count, latest, doing, _, ended = _HEAD.unpack_from(calls)
    books = {number: Book(told) for number, told in enumerate(lines, 1) if "group" in told}
    for told in lines:
        if "mark" in told:
            books[told["of"]].marks.add(told["mark"])
    for slot in range(min(count, FIRST + LAST)):
        index, number, group, call, *rest = _SLOT.unpack_from(calls, _ROOM + slot * _SLOT.size)
        books[group].calls[index] = Call(number, lines[call - 1], *rest)
    return Kept(
        lines[0],
        [one for one in lines if "world" in one],
        list(books.values()),
        last,
        latest,
        lines[doing - 1] if doing else None,
        [one["place"]["file"] for one in lines if "place" in one],
        ENDED[ended],
    )
