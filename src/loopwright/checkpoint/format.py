"""One state in one folder: ``state.json``, ``tensors.safetensors`` and the manifest over both.

``state.json`` is ``{"format", "version", "sequence", "tree"}`` (see `tree`); the tensors stand in the
other file under the names that the tree gives them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from loopwright.checkpoint import disk, tensorfile
from loopwright.checkpoint.manifest import (
    FORMAT,
    MANIFEST,
    STATE,
    TENSORS,
    DamagedCheckpoint,
    FileEntry,
    Manifest,
    check,
    damaged,
    dump,
    open_file,
)
from loopwright.checkpoint.manifest import read as read_manifest
from loopwright.checkpoint.shards import Shards, joined, read_parts
from loopwright.checkpoint.tree import MalformedTree, decode, encode
from loopwright.errors import UsageError

MAX_STATE = 256 << 20  # of JSON; tensors, arrays and long bytes are not in it
MAX_META = 1 << 20


@dataclass(slots=True)
class Packed:
    """A state ready to be written; ``tensors`` may still be live memory."""

    tree: Any
    tensors: dict[str, Tensor]
    meta: Any

    @property
    def bytes(self) -> int:
        """About how many bytes the folder will take (JSON estimated at nothing)."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


def pack(state: Any, meta: dict[str, Any] | None = None) -> Packed:
    """Encode a state and its meta.

    Raises:
        UnsupportedState: a value that cannot be stored, by its path.
        UsageError: meta that holds tensors, or is too large.
    """
    packed_meta = pack_meta(meta)
    tree, tensors = encode(state)
    return Packed(tree, tensors, packed_meta)


def pack_meta(meta: dict[str, Any] | None) -> Any:
    """Encode a checkpoint's meta.

    Raises:
        UsageError: it holds tensors, or is too large.
    """
    packed, stray = encode(dict(meta or {}), root="meta")
    if stray or len(json.dumps(packed)) > MAX_META:
        raise UsageError("meta holds tensors or more than 1 MB of JSON", slug="meta-too-large",
                         hint="put it in the state; meta is what listings show")  # fmt: skip
    return packed


def size_of(state: Any) -> int:
    """Bytes that a checkpoint of this state takes on disk; also proves that it can be stored.

    Raises:
        UnsupportedState: a value that cannot be stored, by its path.
    """
    packed = pack(state)
    names, _ = tensorfile.header(packed.tensors, {})
    return packed.bytes + len(names) + len(_state_json(packed, 0)) + 4096


def _state_json(packed: Packed, sequence: int) -> bytes:
    head = {"format": FORMAT, "version": 1, "sequence": sequence}
    text = json.dumps({**head, "tree": packed.tree}, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_STATE:
        raise UsageError(
            f"the state has {disk.megabytes(len(text))} outside of tensors, the limit is "
            f"{disk.megabytes(MAX_STATE)}",
            slug="state-too-large",
            hint="keep long lists of numbers as tensors or numpy arrays",
        )
    return text.encode()


def write(folder: Path, packed: Packed, sequence: int, shards: Shards | None = None) -> Manifest:
    """Write a checkpoint into an existing empty folder; every file is on the disk, the manifest last.

    Where other processes hold parts of it, theirs are waited for.

    The folder's own names are synced too; renaming it into place is the caller's.

    Raises:
        OSError: as the disk says.
    """
    files: dict[str, FileEntry] = {}
    with disk.HashedFile(folder / STATE) as file:
        file.write(_state_json(packed, sequence))
        file.finish()
        files[STATE] = FileEntry(file.bytes, file.sha256)
    with disk.HashedFile(folder / TENSORS) as file:
        head, order = tensorfile.header(packed.tensors, {})
        file.write(head)
        tensorfile.write_tensors(file, (packed.tensors[name] for name in order))
        file.finish()
        files[TENSORS] = FileEntry(file.bytes, file.sha256)
    if shards is not None:
        others, finite = shards.write(folder)
        files |= others
        if not finite:
            packed.meta["dict"]["finite"] = False
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    manifest = Manifest(sequence, created, packed.meta, files)
    with disk.HashedFile(folder / MANIFEST) as file:
        file.write(dump(manifest))
        file.finish()
    disk.sync_folder(folder)
    return manifest


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint in one pass; what is returned is what was hashed.

    Returns:
        The state and its meta.

    Raises:
        DamagedCheckpoint: any byte differs from what was written, or a file is missing.
        CheckpointError: made by a newer version.
        DiskError: it is there and may not be read.
    """
    manifest = read_manifest(folder)
    with open_file(folder, STATE) as reader:
        if reader.size > MAX_STATE:
            raise damaged(folder, f"{STATE} has {reader.size:,} bytes")
        raw = reader.read(reader.size)
        check(folder, STATE, manifest.files[STATE], reader)
    tensors = _read_tensors(folder, manifest)
    parts = read_parts(folder, manifest)
    try:
        state = decode(json.loads(raw)["tree"], tensors)
        return joined(state, parts) if parts else state, decode(manifest.meta, {})
    except (MalformedTree, ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(folder, f"{STATE} is not a state tree ({error})") from error


def _read_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    entry = manifest.files[TENSORS]
    with open_file(folder, TENSORS) as reader:
        if reader.size != entry.bytes:  # before any memory is taken for it
            check(folder, TENSORS, entry, reader)
        try:
            _, entries, _ = tensorfile.read_header(reader)
            tensors = tensorfile.read_tensors(reader, entries)
        except tensorfile.MalformedFile as error:
            raise damaged(folder, f"{TENSORS}: {error}") from error
        check(folder, TENSORS, entry, reader)
    return tensors


def read_meta(manifest: Manifest, folder: Path) -> dict[str, Any]:
    """The meta of a manifest that was read."""
    try:
        return decode(manifest.meta, {})
    except MalformedTree as error:
        raise damaged(folder, f"its meta is not a state tree ({error})") from error


SEQUENCE = re.compile(rb'"sequence":(\d{1,18}),')


def sequence_of(folder: Path) -> int | None:
    """A checkpoint's number from ``state.json`` alone, for one whose manifest is gone."""
    try:
        with open_file(folder, STATE) as reader:
            found = SEQUENCE.search(reader.read(200))
    except DamagedCheckpoint:
        return None
    return int(found[1]) if found else None
