"""The parts of the checkpoint room that only POSIX has, each with what happens elsewhere.

===================  ==================================  =========================================
part                 POSIX                               elsewhere (untested there)
===================  ==================================  =========================================
fsync of a folder    makes a rename survive power loss   nothing: the file system orders renames
no-follow open       a symbolic link is refused          the link is followed after an lstat check
record lock          dies with its owner, not inherited  ``msvcrt.locking``, one byte; without it
                     by forked children                  no lock, and `RunLock` says so
===================  ==================================  =========================================
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from pathlib import Path
from typing import NoReturn

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

if sys.platform == "win32":
    import msvcrt

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: opening a named pipe under our file's name must not hang.
READ_FLAGS |= NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)
NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
NEW_FLAGS |= NO_FOLLOW | getattr(os, "O_CLOEXEC", 0)
LOCK_FLAGS = os.O_RDWR | NO_FOLLOW | getattr(os, "O_CLOEXEC", 0)


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable; does nothing where folders cannot be opened."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_regular(path: Path) -> int:
    """Open an existing file for reading; a link, a pipe, a device or a folder is ``ELOOP``.

    Raises:
        OSError: errno ``ELOOP`` when the path is not a regular file, else as ``os.open``.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.ELOOP, "not a regular file", str(path))
    fd = os.open(path, READ_FLAGS)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, "not a regular file", str(path))
    return fd


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file without waiting; True when this process has it.

    A record lock belongs to the process: taking it again is harmless, a forked child does not have
    it, and *closing any descriptor of the same file in this process gives it up*.

    Raises:
        OSError: ``ENOLCK`` or ``ENOTSUP`` where the file system (or the platform) has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif sys.platform == "win32":
            os.lseek(fd, 1 << 30, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            _no_locks()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def lock_holder(fd: int) -> int | None:
    """Return the process that has the exclusive lock of an open file, without taking it.

    0 when nobody has; None where this cannot be asked (it is, on 64-bit Linux). Of a lock that this very
    process holds it says 0: closing ``fd`` would then give it up.
    """
    if fcntl is None or sys.platform != "linux" or struct.calcsize("l") != 8:
        return None
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else pid


def _no_locks() -> NoReturn:
    raise OSError(errno.ENOTSUP, "this platform has no file locks")
