"""Tensors that several processes hold a part of: each writes its own file, and the manifest vouches for all.

``shard-00002-of-00004.safetensors`` holds the parts of process 2 (of 1 to 4) under the names that
placeholders in the state give them: ``{"__shard__": "layers.0.weight", "dim": 0}``. A whole tensor is its
parts, joined along ``dim`` in the order of the processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopwright.checkpoint import disk, tensorfile
from loopwright.checkpoint.manifest import (
    SHARD,
    FileEntry,
    Manifest,
    check,
    damaged,
    open_file,
    shard_name,
)

MARK = "__shard__"


@dataclass(slots=True)
class Shards:
    """The part of a save that other processes do.

    Attributes:
        bytes: of all parts.
        write: called with the checkpoint's unfinished folder; returns when every process has written its
            file there, with their entries and whether all weights in them are finite.
    """

    bytes: int
    write: Callable[[Path], tuple[dict[str, FileEntry], bool]]


def placeholder(name: str, dim: int) -> dict[str, Any]:
    """Return what stands in the state for a tensor of which each process has a part."""
    return {MARK: name, "dim": dim}


def write_part(
    folder: Path, number: int, of: int, tensors: dict[str, Tensor]
) -> tuple[str, FileEntry]:
    """Write one process's file; it is on the disk when this returns."""
    name = shard_name(number, of)
    with disk.HashedFile(folder / name) as file:
        head, order = tensorfile.header(tensors, {"format": "pt"})
        file.write(head)
        tensorfile.write_tensors(file, (tensors[name] for name in order))
        file.finish()
        return name, FileEntry(file.bytes, file.sha256)


def read_parts(folder: Path, manifest: Manifest) -> list[dict[str, Tensor]]:
    """Read every process's file, in order; [] where the state is in one piece.

    Raises:
        DamagedCheckpoint: a byte differs from what was written.
    """
    names = sorted(name for name in manifest.files if SHARD.fullmatch(name))
    parts = []
    for name in names:
        with open_file(folder, name) as reader:
            if reader.size != manifest.files[name].bytes:
                check(folder, name, manifest.files[name], reader)
            try:
                _, entries, _ = tensorfile.read_header(reader)
                parts.append(tensorfile.read_tensors(reader, entries))
            except tensorfile.MalformedFile as error:
                raise damaged(folder, f"{name}: {error}") from error
            check(folder, name, manifest.files[name], reader)
    return parts


def joined(tree: Any, parts: list[dict[str, Tensor]]) -> Any:
    """Return a state with whole tensors in the placeholders' places.

    Raises:
        LookupError: a placeholder names a tensor that some file does not hold.
    """
    if isinstance(tree, dict):
        if tree.keys() == {MARK, "dim"}:
            found = [part[tree[MARK]] for part in parts]
            return found[0] if len(found) == 1 else torch.cat(found, dim=tree["dim"])
        return {key: joined(value, parts) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(joined(value, parts) for value in tree)
    return tree
