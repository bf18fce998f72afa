"""The fault shim from Python: compile it, say what it shall do, read what it saw.

``shim.c`` is compiled when it is first asked for, into a temporary folder. A process that was started
with ``LD_PRELOAD`` set to it (and every fork of one) can ``arm`` it. The control file is mapped by the
program and by whoever watches it; what stands in it outlives a SIGKILL.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
KINDS = (
    "open", "write", "fsync", "fsync folder", "rename", "unlink", "mkdir", "rmdir", "truncate",
    "link",
)  # fmt: skip
NEVER = -1

# One 8-byte word each, in the order of shim.c's struct; then the words of the program itself.
_ASKED = ("kill_before", "tear", "fail_from", "fail_until", "fail_errno", "log")
_SLOTS = 16
_PROGRAM = (
    "die_at", "die_after", "where", "turn", "first_turn", "bodies", "count_at_first_body",
    "first_body_ns", "done_ns",
)  # fmt: skip
_AT = {name: i for i, name in enumerate((*_ASKED, "count"))}
_ACTIVE = len(_AT)
_COUNTS = _ACTIVE + _SLOTS
_AT.update({name: _COUNTS + _SLOTS + i for i, name in enumerate(_PROGRAM)})
_WORDS = max(_AT.values()) + 1

PLACES = (
    "outside", "start", "fetch", "body", "validation", "epoch boundary", "loop end", "between loops",
    "done",
)  # fmt: skip
"""Where a program can say that it is: ``start`` is before the first body of a process, ``loop end`` after
the last body of a loop, ``between loops`` from there to the first body of the next, ``done`` after the
last write."""


@functools.cache
def library() -> Path | None:
    """The compiled shim; None where there is no C compiler or no glibc."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = folder / "shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", out, SOURCE, "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"the fault shim does not compile here:\n{done.stderr}", file=sys.stderr)
        return None
    return out


class Control:
    """The words of a control file, as attributes; see ``shim.c`` for what the shim's own mean.

    Args:
        path: made when it is not there.
        asked: ``kill_before=``, ``tear=``, ``fail_from=`` ...
    """

    def __init__(self, path: Path, **asked: int):
        if not path.exists():
            path.write_bytes(bytes(8 * _WORDS))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _WORDS)
        self._words = memoryview(self._map).cast("q")
        self.path = path
        for name, value in asked.items():
            setattr(self, name, value)

    @classmethod
    def new(cls, path: Path, **asked: int) -> Control:
        """A control file in which nothing has happened yet."""
        path.unlink(missing_ok=True)
        names = ("kill_before", "tear", "fail_from", "die_at", "first_turn")
        nothing = dict.fromkeys(names, NEVER)
        return cls(path, **{**nothing, **asked})

    def __getattr__(self, name: str) -> int:
        try:
            return self._words[_AT[name]]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        if name in _AT:
            self._words[_AT[name]] = value
        else:
            object.__setattr__(self, name, value)

    @property
    def active(self) -> list[str]:
        """The kinds of operation that were being executed."""
        return [kind for i, kind in enumerate(KINDS) if self._words[_ACTIVE + i] > 0]

    @property
    def counts(self) -> dict[str, int]:
        """How many operations of each kind there were."""
        return {kind: self._words[_COUNTS + i] for i, kind in enumerate(KINDS)}

    @property
    def place(self) -> str:
        """Where the program said that it is."""
        return PLACES[self.where]

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._map.close()


def arm(folder: Path, control: Path, log: Path | None = None, *, only: str = "") -> bool:
    """Have the shim watch ``folder`` in this process; False where it was not preloaded.

    Args:
        folder: an existing one.
        control: the file of a `Control`.
        log: a file for every operation.
        only: the end of a path; ``fail_from`` and ``fail_until`` then count the operations on such files.
    """
    function = getattr(ctypes.CDLL(None), "faults_arm", None)
    if function is None:
        return False
    paths = (os.path.realpath(folder), control, log or "", only)
    code = function(*(os.fsencode(path) for path in paths))
    if code:
        raise OSError(code, os.strerror(code), str(control))
    return True


class Operation(NamedTuple):
    """One operation of a log, as it was executed; paths are absolute."""

    number: int
    kind: str
    path: str
    second: str
    created: bool
    truncated: bool
    inode: int
    offset: int
    data: bytes
    error: int

    def __str__(self) -> str:
        names = [Path(path).name for path in (self.path, self.second) if path]
        size = f" {len(self.data)} bytes at {self.offset}" if self.kind == "write" else ""
        failed = f" failed: {os.strerror(self.error)}" if self.error else ""
        return f"{self.number}: {self.kind} {' -> '.join(names)}{size}{failed}"


_RECORD = struct.Struct("=iiqqqqiiii")


def read_log(path: Path) -> Iterator[Operation]:
    """The operations of a log in the order in which they were executed."""
    raw = path.read_bytes()
    at = 0
    while at < len(raw):
        kind, flags, number, inode, offset, _, error, *sizes = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        parts = []
        for size in sizes:
            parts.append(raw[at : at + size])
            at += size
        name, second, data = parts
        yield Operation(
            number, KINDS[kind], os.fsdecode(name), os.fsdecode(second),
            bool(flags & 1), bool(flags & 2), inode, offset, data, error,
        )  # fmt: skip
