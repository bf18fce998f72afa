"""Every operation on files that a save makes, one small function each, and what their failures mean.

The other modules call these as ``disk.rename(...)``, so that a test can stop, tear or fail each
operation by replacing it here.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from loopwright.checkpoint import posix
from loopwright.errors import DiskError, LoopwrightError

# Each chunk gives the interpreter lock away and asks for it back, up to 5 ms when the training
# thread is busy in Python: few large chunks stall neither side.
CHUNK = 16 << 20

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def megabytes(size: int) -> str:
    """A size in the words of every message: ``12.3 MB`` (10^6 bytes)."""
    return f"{size / 1e6:,.1f} MB"


def create(path: Path) -> int:
    """Open a file that must not exist yet; returns its descriptor."""
    return os.open(path, posix.NEW_FLAGS, 0o666)


def write(fd: int, data: memoryview) -> None:
    """Write all of ``data`` (one short write is continued)."""
    while data:
        data = data[os.write(fd, data) :]


def patch(fd: int, data: bytes, offset: int) -> None:
    """Overwrite a few bytes at ``offset``."""
    os.lseek(fd, offset, os.SEEK_SET)
    write(fd, memoryview(data))


def sync(fd: int) -> None:
    """Wait until a file's content is on the disk."""
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk."""
    posix.sync_folder(folder)


def rename(old: Path, new: Path) -> None:
    """Rename a folder to a free name, or a file over an existing one; atomic."""
    os.replace(old, new)


def make_folder(folder: Path) -> None:
    """Create one folder in an existing parent."""
    folder.mkdir()


def remove_folder(folder: Path) -> None:
    """Delete a folder and what is in it; a symbolic link is never followed."""
    shutil.rmtree(folder)


def ensure_folder(folder: Path) -> None:
    """Create a folder and its parents durably; does nothing when it is there."""
    if folder.is_dir():
        return
    ensure_folder(folder.parent)
    with suppress(FileExistsError):
        make_folder(folder)
    sync_folder(folder.parent)


def nearest(path: Path) -> Path:
    """The closest ancestor that exists (the path itself when it does)."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where ``path`` is, or will be."""
    return shutil.disk_usage(nearest(path)).free


class HashedFile:
    """A new file that is hashed while it is written; ``finish`` makes it durable.

    Args:
        path: must not exist.
    """

    def __init__(self, path: Path):
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._fd = create(path)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK):
            chunk = view[start : start + CHUNK]
            self._hash.update(chunk)
            write(self._fd, chunk)
        self.bytes += len(view)

    def patch(self, data: bytes, offset: int) -> None:
        """Overwrite a few bytes that were written before; the hash stays that of the first ones."""
        patch(self._fd, data, offset)

    @property
    def sha256(self) -> str:
        """The hash of everything written so far, in hex."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Flush to the disk and close."""
        sync(self._fd)
        self.close()

    def close(self) -> None:
        """Close without a flush; does nothing the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class HashedReader:
    """An existing regular file that is hashed while it is read, front to back.

    Raises:
        OSError: as ``posix.open_regular``.
    """

    def __init__(self, path: Path):
        self._file = io.BufferedReader(io.FileIO(posix.open_regular(path)), 1 << 20)
        self._hash = hashlib.sha256()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer``; returns how many bytes there were (fewer only at the file's end)."""
        done = 0
        while done < len(buffer):
            count = self._file.readinto(buffer[done : done + CHUNK])
            if not count:
                break
            self._hash.update(buffer[done : done + count])
            done += count
        return done

    def rehash(self, data: bytes) -> None:
        """Hash as if ``data`` were all that was read so far."""
        self._hash = hashlib.sha256(data)

    @property
    def sha256(self) -> str:
        """The hash of everything read so far, in hex."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def is_device(path: Path) -> bool:
    """Whether a path is a device or a pipe, ``/dev/stdout`` included: nothing may be put in its place."""
    return path.parent == Path("/dev") or (path.exists() and not path.is_file())


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file so that its old content stays until the new one is complete."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.unlink(missing_ok=True)
    try:
        with HashedFile(temporary) as file:
            file.write(data)
            file.finish()
        rename(temporary, path)
    except BaseException:  # Ctrl-C too leaves no half
        with suppress(OSError):  # the first failure is the one to report
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def failures(doing: str, path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn an ``OSError`` in the block into a `DiskError` that says what to do.

    Args:
        doing: the verb phrase of the message: "write checkpoint 'step-40'".
        path: where; its file system's free room is named when that was the reason.
        needed: bytes that were to be written, named when there was no room.
    """
    try:
        yield
    except LoopwrightError:
        raise
    except OSError as error:
        raise explain(error, doing, path, needed) from error


def explain(error: OSError, doing: str, path: Path, needed: int | None = None) -> DiskError:
    """The `DiskError` that an ``OSError`` amounts to."""
    if error.errno in NO_ROOM:
        return no_room(doing, path, needed)
    if error.errno in NOT_ALLOWED:
        return DiskError(
            f"cannot {doing}: {os.strerror(error.errno or 0)}",
            slug="not-writable",
            where=str(error.filename or path),
            hint="choose a folder that this user may write to, or change its permissions",
        )
    return DiskError(
        f"cannot {doing}: {error.strerror or error}",
        slug="disk-failed",
        where=str(error.filename or path),
        hint="earlier checkpoints are untouched; run the same command again once the path works",
    )


def no_room(doing: str, path: Path, needed: int | None) -> DiskError:
    """The `DiskError` of a full disk, with the MB needed and the MB free."""
    need = f"{megabytes(needed)} needed, " if needed is not None else ""
    return DiskError(
        f"cannot {doing}: no room on the disk ({need}{megabytes(free_bytes(path))} free)",
        slug="disk-full",
        where=str(path),
        hint="earlier checkpoints are untouched; make room and run the same command again",
    )
