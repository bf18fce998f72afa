"""The manifest of a checkpoint: what each file's bytes are; written last, so it vouches for all.

``manifest.json`` is JSON in one exact spelling and carries the hash of itself, so a flipped bit in
the manifest is found like one in the files that it lists. That rule (the ``sha256`` field is the hash
of the same JSON without the field) holds for every future version of the format.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.checkpoint import disk
from loopwright.errors import CheckpointError, LoopwrightError

FORMAT = "loopwright-checkpoint"
VERSION = 2
"""The newest that is read."""
WHOLE_VERSION, SHARDED_VERSION = 1, 2
"""What is written: without shards a version that older ones read."""
MANIFEST = "manifest.json"
STATE = "state.json"
TENSORS = "tensors.safetensors"
FILES = (STATE, TENSORS)
SHARD = re.compile(r"shard-(\d{5})-of-(\d{5})\.safetensors")
MAX_MANIFEST = 4 << 20


class DamagedCheckpoint(CheckpointError):  # noqa: N818  read as a noun in `except`
    """One checkpoint cannot be trusted; the one before it may be."""


def damaged(folder: Path, why: str) -> DamagedCheckpoint:
    """The error for one checkpoint folder."""
    return DamagedCheckpoint(
        f"checkpoint {folder.name!r} is damaged: {why}",
        slug="checkpoint-damaged",
        where=str(folder),
        hint="restore the folder from a copy, or delete it to go on from an earlier checkpoint",
    )


@dataclass(slots=True)
class FileEntry:
    """Size and hash of one file."""

    bytes: int
    sha256: str


@dataclass(slots=True)
class Manifest:
    """What stands in ``manifest.json``. ``sequence`` counts up in a store; ``meta`` is an encoded tree."""

    sequence: int
    created: str
    meta: Any
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The bytes of all listed files."""
        return sum(entry.bytes for entry in self.files.values())


def dump(manifest: Manifest) -> bytes:
    """The exact bytes of a manifest."""
    body = {
        "format": FORMAT,
        "version": SHARDED_VERSION if any(map(SHARD.fullmatch, manifest.files)) else WHOLE_VERSION,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "files": {
            name: {"bytes": entry.bytes, "sha256": entry.sha256}
            for name, entry in manifest.files.items()
        },
        "meta": manifest.meta,
    }
    return _spell({**body, "sha256": hashlib.sha256(_spell(body)).hexdigest()})


def _spell(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1, allow_nan=False).encode() + b"\n"


def parse(raw: bytes, folder: Path) -> Manifest:
    """Read a manifest's bytes.

    Raises:
        DamagedCheckpoint: not the exact bytes that `dump` made.
        CheckpointError: made by a newer version.
    """
    try:
        body = json.loads(raw)
        claimed = body.pop("sha256")
        sound = _spell({**body, "sha256": claimed}) == raw
        sound = sound and hashlib.sha256(_spell(body)).hexdigest() == claimed
        if not sound or body.pop("format") != FORMAT:
            raise damaged(folder, f"{MANIFEST} is not what was written")
        _refuse_newer(body.pop("version"), folder)
        files = {name: FileEntry(**entry) for name, entry in body.pop("files").items()}
        manifest = Manifest(**body, files=files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} is not readable ({type(error).__name__})") from error
    shards = sorted(filter(SHARD.fullmatch, files))
    if type(manifest.sequence) is not int or set(files) - set(shards) != set(FILES):
        raise damaged(folder, f"{MANIFEST} does not list {' and '.join(FILES)}")
    if shards != [shard_name(number, len(shards)) for number in range(len(shards))]:
        raise damaged(folder, f"{MANIFEST} does not list all shards")
    return manifest


def shard_name(number: int, of: int) -> str:
    """Return the name of the file of process ``number``, counted from 0."""
    return f"shard-{number + 1:05}-of-{of:05}.safetensors"


def _refuse_newer(version: int, folder: Path) -> None:
    if version > VERSION:
        raise CheckpointError(
            f"checkpoint {folder.name!r} has format version {version}, this Loopwright reads up to {VERSION}",
            slug="checkpoint-newer",
            where=str(folder),
            hint="install the Loopwright that wrote it, or a newer one: pip install -U loopwright",
        )


def read(folder: Path) -> Manifest:
    """Read a checkpoint's manifest.

    Raises:
        DamagedCheckpoint: missing, too large, a link, or not what was written.
        CheckpointError: made by a newer version.
        DiskError: it is there and may not be read.
    """
    with open_file(folder, MANIFEST) as reader:
        if reader.size > MAX_MANIFEST:
            raise damaged(folder, f"{MANIFEST} has {reader.size:,} bytes")
        return parse(reader.read(reader.size), folder)


@contextmanager
def open_file(folder: Path, name: str) -> Iterator[disk.HashedReader]:
    """Open one file of a checkpoint; what a disk may do to it is damage, a missing permission is not."""
    try:
        if folder.is_symlink():
            raise damaged(folder, "the folder is a symbolic link")
        with disk.HashedReader(folder / name) as reader:
            yield reader
    except LoopwrightError:
        raise
    except FileNotFoundError as error:
        raise damaged(folder, f"{name} is missing") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EIO, errno.ENOTDIR):
            raise damaged(folder, f"{name}: {error.strerror}") from error
        raise disk.explain(error, f"read checkpoint {folder.name!r}", folder) from error


def check(folder: Path, name: str, entry: FileEntry, reader: disk.HashedReader) -> None:
    """Compare a file that was read to its end with its entry; a difference is `DamagedCheckpoint`."""
    if reader.size != entry.bytes:
        raise damaged(folder, f"{name} has {reader.size:,} bytes, {entry.bytes:,} were written")
    if reader.sha256 != entry.sha256:
        raise damaged(folder, f"the content of {name} is not what was written (sha256 differs)")


def verify(folder: Path) -> list[str]:
    """Read a checkpoint's files and compare them with its manifest; needs no memory for tensors.

    Returns:
        What is wrong, in words; an empty list when every byte is as it was written.
    """
    try:
        manifest = read(folder)
    except CheckpointError as error:
        return [error.what]
    problems = []
    for name, entry in manifest.files.items():
        try:
            with open_file(folder, name) as reader:
                while reader.read(disk.CHUNK):
                    pass
                check(folder, name, entry, reader)
        except DamagedCheckpoint as error:
            problems.append(error.what)
    return problems
