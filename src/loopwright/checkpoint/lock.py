"""One process per run folder: a lock that dies with its owner.

A POSIX record lock, because it belongs to the process: the kernel drops it however the owner ends,
and a forked DataLoader worker that outlives its parent for a moment does not have it (a ``flock``
would stay). Its two traps are handled here: within one process it excludes nobody, so a table of held
locks does; and closing any descriptor of the file gives it up (a tracker that copies the run folder
does that), so it is taken again before each save (`RunLock.renew`).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from loopwright.checkpoint import disk, posix
from loopwright.errors import CheckpointError, LoopwrightWarning

LOCK = ".lock"
_HELD: dict[str, RunLock] = {}


class LockedError(CheckpointError):
    """Another process is using the run folder."""


class SameProcess(CheckpointError):  # noqa: N818  a fact to act on, not a fault
    """This very process has the folder already; ``holder`` is the lock that it holds."""

    holder: RunLock


class RunLock:
    """Held from construction to `release`, or to the end of the process.

    Args:
        folder: an existing run folder; the file ``.lock`` in it stays behind, empty.
        owner: whatever holds the folder for, handed to one who finds it held by this process.
        quiet: change nothing in the folder until `announce`: whoever finds that there is nothing to
            do leaves every byte and time as it was. Where there is no lock file yet, nothing is held
            meanwhile.

    Raises:
        LockedError: another process has it: its pid, host and since when.
        SameProcess: this process has it: ``error.holder.owner`` may be asked to close.
        DiskError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, *, owner: Any = None, quiet: bool = False):
        self.folder = Path(folder)
        self.owner = owner
        self.path = self.folder / LOCK
        self._key = os.path.realpath(self.path)
        self._pid = os.getpid()
        self._fd = -1
        self._announced = False
        holder = _HELD.setdefault(self._key, self)
        if holder is not self and holder._pid == self._pid:
            raise _same_process(holder)
        _HELD[self._key] = self  # the entry of a parent process, if there was one, is not ours
        try:
            self._take(0 if quiet else os.O_CREAT)
            if not quiet:
                self.announce()
        except BaseException:  # Ctrl-C too: a lock that nobody knows of would never be given back
            self.release()
            raise

    def announce(self) -> None:
        """Write into the lock file who holds it; the second time does nothing."""
        if self._announced:
            return
        if self._fd < 0:
            self._take(os.O_CREAT)
        with disk.failures("lock the run folder", self.folder):
            body = {"pid": self._pid, "host": socket.gethostname(), "since": _now()}
            os.ftruncate(self._fd, 0)
            disk.patch(self._fd, json.dumps(body).encode(), 0)
        self._announced = True

    def _take(self, create: int) -> None:
        with disk.failures("lock the run folder", self.folder):
            try:
                self._fd = os.open(self.path, posix.LOCK_FLAGS | create, 0o666)
            except FileNotFoundError:
                if create:
                    raise
                return
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise CheckpointError(
                        f"{LOCK} is a symbolic link", slug="lock-link", where=str(self.folder)
                    ) from error
                raise
            if not self._try():
                raise self._locked()

    def _try(self) -> bool:
        try:
            return posix.try_lock(self._fd)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            warnings.warn(
                f"the file system of {self.folder} has no locks: two runs in this folder at the same "
                "time would not be noticed",
                LoopwrightWarning,
                stacklevel=4,
            )
            return True

    def _locked(self) -> LockedError:
        holder = read_holder(self.path)
        pid = posix.lock_holder(self._fd)
        who = f"process {pid}" if pid else "another process"
        if holder and (not pid or holder["pid"] == str(pid)):  # a quiet one has not written its own
            who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        return LockedError(
            f"the run folder is in use by {who}",
            slug="run-folder-in-use",
            where=str(self.folder),
            hint="wait until it ends, stop it, or give this run another --out",
        )

    @property
    def held(self) -> bool:
        """Whether this process holds it (a forked child does not)."""
        return self._fd >= 0 and self._pid == os.getpid()

    def renew(self) -> None:
        """Take the lock again, in case some code of this process has opened and closed its file.

        Raises:
            LockedError: another process has taken it meanwhile.
            CheckpointError: it was released.
        """
        if not self.held:
            raise CheckpointError(
                "this run no longer owns its folder", slug="lock-released", where=str(self.folder),
                hint="a newer Run of this process has taken it over",
            )  # fmt: skip
        with disk.failures("lock the run folder", self.folder):
            if not self._try():
                raise self._locked()

    def release(self) -> None:
        """Give the folder up; the second time, and in a forked child, does nothing."""
        if self._pid != os.getpid():
            return
        if _HELD.get(self._key) is self:
            del _HELD[self._key]
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def read_holder(path: Path) -> dict[str, Any] | None:
    """Who wrote the lock file last: pid, host, since; None when it does not say.

    Never call this for a lock that this process holds: closing the file would give it up.
    """
    try:
        with disk.HashedReader(path) as reader:
            body = json.loads(reader.read(4096))
        return {key: str(body[key])[:80] for key in ("pid", "host", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def holder_of(folder: Path) -> str | None:
    """Say which other process has a run folder, without touching its lock; None when none has.

    Never opens the lock of this process: closing it would give it up.
    """
    path = folder / LOCK
    if os.path.realpath(path) in _HELD:
        return None
    try:
        fd = posix.open_regular(path)
    except OSError:  # nobody has made one, or it is a link, which nobody's lock is
        return None
    try:
        pid = posix.lock_holder(fd)
    finally:
        os.close(fd)
    return f"process {pid}" if pid else None


def _same_process(holder: RunLock) -> SameProcess:
    error = SameProcess(
        "this process is using the run folder already",
        slug="run-folder-in-use",
        where=str(holder.folder),
        hint="close the other run first: run.close()",
    )
    error.holder = holder
    return error


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
