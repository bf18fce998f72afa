"""The JSON and text files of a run's folder: written whole or not at all, read without trust.

A folder may come from somebody else. A symbolic link under one of our names is not followed, neither to
read what it points at nor to write there; a pipe does not hang; a file of absurd size takes no memory.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from loopwright.checkpoint import disk
from loopwright.errors import DiskError
from loopwright.train.folder.history import strict

LARGEST = 64 << 20
"""Bytes of a JSON file that are read; ours have kilobytes (the summary of a model of 10,000 layers: 2 MB)."""


class Unreadable(ValueError):  # noqa: N818  read as a noun in `except`
    """A file is there and is not what we write; the text says why."""


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that the old one stays until the new one is on the disk."""
    text = json.dumps(strict(value), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that the old one stays until the new one is on the disk.

    A file that has this very content is left as it is.

    Raises:
        DiskError: no room, no permission, or something else is in the way.
    """
    data = text.encode()
    if _holds(path, data):
        return
    with disk.failures(f"write {path.name}", path, needed=len(data)):
        try:
            disk.replace_file(path, data)
        except IsADirectoryError as error:
            raise DiskError(
                f"cannot write {path.name}: a folder is in its place",
                slug="cannot-write", where=str(path),
            ) from error  # fmt: skip


def _holds(path: Path, data: bytes) -> bool:
    try:
        with disk.HashedReader(path) as reader:
            return reader.size == len(data) and reader.read(len(data)) == data
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """Return a JSON file's value; None where there is no file or it is not JSON."""
    try:
        return parse(path)
    except Unreadable:
        return None


def parse(path: Path) -> Any:
    """Return a JSON file's value; None where there is no file.

    Raises:
        Unreadable: it is a link, a pipe or a folder, too large, not text, or not JSON.
    """
    try:
        with disk.HashedReader(path) as reader:
            if reader.size > LARGEST:
                raise Unreadable(f"it has {reader.size:,} bytes")
            return json.loads(reader.read(reader.size).decode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(_reason(path, error)) from error
    except UnicodeDecodeError as error:
        raise Unreadable("it is not text") from error
    except json.JSONDecodeError as error:
        cut = "it is empty" if not error.doc.strip() else f"not JSON at line {error.lineno}"
        raise Unreadable(cut) from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link" if path.is_symlink() else "it is not a file"
    return (error.strerror or str(error)).lower()
