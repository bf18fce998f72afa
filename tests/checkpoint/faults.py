"""A disk that stops the process at one operation, as a kill does: nothing after it runs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from loopwright.checkpoint import disk

OPERATIONS = ("create", "write", "sync", "sync_folder", "rename", "make_folder", "remove_folder")


class Killed(BaseException):
    """Stands for SIGKILL: clean-up code meets it again at its first operation."""


class Disk:
    """Wraps `disk`'s operations: keeps a log, and kills before operation number ``kill_before``.

    Bytes that were written and not fsynced are lost at a kill when ``lose_unsynced`` is set: what is
    lost is the worst that a power cut may do, half of the file.
    """

    def __init__(self, monkeypatch, *, kill_before: int | None = None, lose_unsynced: bool = False):
        self.log: list[tuple[str, str]] = []
        self.killed = False
        self._kill_before = kill_before
        self._lose = lose_unsynced
        self._open: dict[int, int] = {}
        self._unsynced: dict[int, Path] = {}
        for name in OPERATIONS:
            monkeypatch.setattr(disk, name, self._wrap(name, getattr(disk, name)))

    def _wrap(self, name, real):
        def operation(*arguments):
            if self.killed or len(self.log) == self._kill_before:
                self._kill()
            self.log.append((name, self._say(arguments)))
            result = real(*arguments)
            if name == "create":
                self._unsynced[os.fstat(result).st_ino] = arguments[0]
            elif name == "sync":
                self._unsynced.pop(os.fstat(arguments[0]).st_ino, None)
            return result

        return operation

    @staticmethod
    def _say(arguments) -> str:
        first = arguments[0]
        if isinstance(first, int):
            return Path(os.readlink(f"/proc/self/fd/{first}")).name
        return " -> ".join(path.name for path in arguments if isinstance(path, Path))

    def _kill(self):
        if not self.killed and self._lose:
            for path in self._unsynced.values():
                if path.exists():
                    os.truncate(path, path.stat().st_size // 2)
        self.killed = True
        raise Killed


def failing(monkeypatch, name: str, code: int, *, after: int = 0) -> None:
    """Make one of `disk`'s operations fail with an errno, from its call number ``after`` on."""
    real = getattr(disk, name)
    calls = iter(range(1_000_000))

    def operation(*arguments):
        if next(calls) >= after:
            raise OSError(code, os.strerror(code), str(arguments[0]))
        return real(*arguments)

    monkeypatch.setattr(disk, name, operation)


NO_ROOM = errno.ENOSPC
