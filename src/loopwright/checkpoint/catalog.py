"""What is in a store's folder: the checkpoints in the order in which they were written."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from loopwright.checkpoint import disk
from loopwright.checkpoint import format as layout
from loopwright.checkpoint.manifest import (
    FILES,
    MANIFEST,
    DamagedCheckpoint,
    Manifest,
)
from loopwright.checkpoint.manifest import read as read_manifest
from loopwright.errors import CheckpointError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """Return a checkpoint's name when it is a plain folder name, nothing that could lead elsewhere.

    Raises:
        UsageError: anything else than letters, digits, ``.``, ``_`` and ``-``.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"{name!r} cannot name a checkpoint",
            slug="checkpoint-name",
            hint="use letters, digits, '.', '_' and '-', beginning with a letter or a digit",
        )
    return name


@dataclass(slots=True)
class Entry:
    """One checkpoint folder; ``manifest`` is None when it cannot be read, ``why`` then says it."""

    name: str
    sequence: int
    manifest: Manifest | None
    why: CheckpointError | None = None


def entries(folder: Path) -> list[Entry]:
    """List a store's checkpoints, oldest first, damaged ones included; reads manifests only.

    A sub-folder counts when at least one of our files is in it; a symbolic link under a checkpoint's
    name counts as a damaged one and is not followed.

    Raises:
        CheckpointError: the folder is a symbolic link.
        DiskError: the folder is there and may not be read.
    """
    if folder.is_symlink():
        raise CheckpointError(
            f"{folder.name} is a symbolic link, which could lead anywhere: not followed",
            slug="checkpoints-link",
            where=str(folder),
            hint="link the whole run folder, or give the run an out= where there is room",
        )
    with disk.failures("list the checkpoints", folder):
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
    paths = [folder / name for name in names if NAME.fullmatch(name)]
    found = [_entry(path) for path in paths if _is_checkpoint(path)]
    return sorted(found, key=lambda entry: (entry.sequence, entry.name))


def _is_checkpoint(folder: Path) -> bool:
    if folder.is_symlink():
        return True
    if not folder.is_dir():
        return False
    return any(os.path.lexists(folder / name) for name in (*FILES, MANIFEST))


def _entry(folder: Path) -> Entry:
    try:
        manifest = read_manifest(folder)
    except DamagedCheckpoint as error:
        number = layout.sequence_of(folder)
        # Nothing says when it was written: taken as the newest, so that it is spoken of.
        return Entry(folder.name, 1 << 62 if number is None else number, None, error)
    except CheckpointError as error:
        return Entry(folder.name, 1 << 62, None, error)
    return Entry(folder.name, manifest.sequence, manifest)


def next_sequence(found: list[Entry]) -> int:
    """The number of the next checkpoint."""
    return 1 + max((entry.sequence for entry in found if entry.sequence < 1 << 61), default=0)


def missing(folder: Path, name: str, names: list[str]) -> CheckpointError:
    """The error for a name that is not there; names the nearest that is."""
    near = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names[-5:]) if names else "none"
    return CheckpointError(
        f"there is no checkpoint {name!r} (there: {listed})",
        slug="no-such-checkpoint",
        where=str(folder),
        hint=f"did you mean {near[0]!r}?" if near else None,
    )
