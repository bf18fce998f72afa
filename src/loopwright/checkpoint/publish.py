"""The order of a save: nothing that was whole is touched before something newer is whole.

1. write into ``.tmp-NAME``: each file fsynced, the manifest last, then the folder
2. a checkpoint of the same name steps aside: ``NAME`` -> ``.old-NAME``
3. ``.tmp-NAME`` -> ``NAME``, then fsync of the store's folder
4. only now older ones go: ``OLD`` -> ``.trash-OLD``, and is emptied

A crash anywhere leaves names that begin with a dot; `recover` undoes them at the next start.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from loopwright.checkpoint import disk
from loopwright.checkpoint import format as layout
from loopwright.checkpoint.manifest import Manifest
from loopwright.checkpoint.shards import Shards

LEFTOVER = re.compile(r"\.(tmp|old|trash)-([A-Za-z0-9][A-Za-z0-9._-]{0,99})")


def publish(
    folder: Path, name: str, packed: layout.Packed, sequence: int, shards: Shards | None = None
) -> Manifest:
    """Write a checkpoint and put it into place.

    Raises:
        DiskError: no room, no permission; every earlier checkpoint is as it was.
    """
    temporary = folder / f".tmp-{name}"
    with disk.failures(f"write checkpoint {name!r}", folder, needed=packed.bytes):
        disk.ensure_folder(folder)
        if temporary.exists():
            disk.remove_folder(temporary)
        disk.make_folder(temporary)
        try:
            manifest = layout.write(temporary, packed, sequence, shards)
            _put_into_place(folder, name, temporary)
        except BaseException:  # Ctrl-C too leaves no half
            with suppress(OSError):  # the first failure is the one to report; recover() removes it
                disk.remove_folder(temporary)
            raise
        disk.sync_folder(folder)
        if (folder / f".old-{name}").exists():
            disk.remove_folder(folder / f".old-{name}")
    return manifest


def _put_into_place(folder: Path, name: str, temporary: Path) -> None:
    final, aside = folder / name, folder / f".old-{name}"
    if not os.path.lexists(final):
        disk.rename(temporary, final)
        return
    if aside.exists():
        disk.remove_folder(aside)
    disk.rename(final, aside)
    try:
        disk.rename(temporary, final)
    except BaseException:  # Ctrl-C too: the old one is the sound one
        disk.rename(aside, final)
        raise


def discard(folder: Path, name: str) -> None:
    """Delete a checkpoint; a crash in the middle leaves no half of it under its name."""
    trash = folder / f".trash-{name}"
    with disk.failures(f"delete checkpoint {name!r}", folder):
        if trash.exists():
            disk.remove_folder(trash)
        disk.rename(folder / name, trash)
        disk.remove_folder(trash)


def recover(folder: Path) -> list[str]:
    """Undo what a crash left; only for the one that owns the folder's lock.

    A checkpoint that had stepped aside for one that never came steps back.

    Returns:
        One line for each thing done.
    """
    done = []
    with disk.failures("clean up after a crash", folder):
        if not folder.is_dir():
            return done
        for entry in sorted(os.listdir(folder)):
            found = LEFTOVER.fullmatch(entry)
            if not found or (folder / entry).is_symlink() or not (folder / entry).is_dir():
                continue
            kind, name = found.groups()
            if kind == "old" and not os.path.lexists(folder / name):
                disk.rename(folder / entry, folder / name)
                done.append(f"put back checkpoint {name!r}")
            else:
                disk.remove_folder(folder / entry)
                done.append(f"removed {entry}, an unfinished write")
        if done:
            disk.sync_folder(folder)
    return done
