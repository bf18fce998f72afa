"""What a disk may hold after a power cut, worked out from the log of a process.

POSIX promises of a file only what was fsynced before, and of a name only what was there when its folder
was fsynced. Everything else may be kept or lost, each by itself. A `Disk` replays a log and remembers
both: what a running process sees, and what is sure. ``write`` then makes one of the states that a file
system may come up with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shim import Operation


@dataclass(eq=False, slots=True)
class File:
    """Its content now, and as it was at the last fsync (nothing, if there was none)."""

    now: bytearray = field(default_factory=bytearray)
    sure: bytes = b""


@dataclass(eq=False, slots=True)
class Change:
    """One change of a folder's names that was not fsynced: name -> what stands there (None: gone)."""

    number: int
    names: dict[str, File | Folder | None]


@dataclass(eq=False, slots=True)
class Folder:
    """Its names now, those that are sure, and the changes between the two, in their order."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    sure: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


Keep = Callable[[int], bool]
"""Whether a change of that number is on the disk."""

Content = Callable[[File], bytes]
"""What of a file's content is on the disk."""


class Disk:
    """A folder as a log leaves it; at the beginning it is empty, or what is there, which is sure.

    Args:
        root: the folder that the shim watched.
        found: a folder whose content stands in it before the log begins.
    """

    def __init__(self, root: Path, found: Path | None = None):
        self._root = root.resolve()
        self.top = Folder() if found is None else _read(found)
        self._inodes: dict[int, File] = {}
        self.applied = 0

    def apply(self, operations: Iterable[Operation]) -> None:
        """Do what the operations did; those that failed did nothing."""
        for operation in operations:
            self.applied = operation.number + 1
            if not operation.error:
                self._apply(operation)

    def _apply(self, op: Operation) -> None:
        if op.kind == "open":
            self._open(op)
        elif op.kind in ("write", "truncate"):
            now = self._file(op).now
            if op.kind == "truncate":
                del now[op.offset :]
            now.extend(bytes(max(0, op.offset - len(now))))
            now[op.offset : op.offset + len(op.data)] = op.data
        elif op.kind == "fsync":
            file = self._file(op)
            file.sure = bytes(file.now)
        elif op.kind == "fsync folder":
            folder = self._at(Path(op.path))
            assert isinstance(folder, Folder)
            folder.sure, folder.changes = dict(folder.now), []
        elif op.kind == "mkdir":
            self._change(op, {op.path: Folder()})
        elif op.kind in ("unlink", "rmdir"):
            self._change(op, {op.path: None})
        elif op.kind == "rename":
            self._change(op, {op.path: None, op.second: self._at(Path(op.path))})
        else:
            assert op.kind == "link", op
            self._change(op, {op.second: self._at(Path(op.path))})

    def _open(self, op: Operation) -> None:
        if op.created:
            self._inodes[op.inode] = File()
            self._change(op, {op.path: self._inodes[op.inode]})
        else:
            found = self._at(Path(op.path))
            assert isinstance(found, File), op
            self._inodes[op.inode] = found
            if op.truncated:
                found.now.clear()

    def _file(self, op: Operation) -> File:
        return self._inodes[op.inode]

    def _change(self, op: Operation, names: dict[str, File | Folder | None]) -> None:
        by_folder: dict[Path, dict[str, File | Folder | None]] = {}
        for path, node in names.items():
            by_folder.setdefault(Path(path).parent, {})[Path(path).name] = node
        for where, changed in by_folder.items():
            folder = self._at(where)
            assert isinstance(folder, Folder), op
            folder.changes.append(Change(op.number, changed))
            _change_names(folder.now, changed)

    def _at(self, path: Path) -> File | Folder:
        node: File | Folder = self.top
        for part in path.relative_to(self._root).parts:
            assert isinstance(node, Folder), path
            node = node.now[part]
        return node

    def state(self, keep: Keep, content: Content) -> dict[str, bytes | None]:
        """Relative path -> content (None: a folder) of the state that these choices make."""
        found: dict[str, bytes | None] = {}
        _collect(self.top, "", keep, content, found)
        return found


def _change_names(
    names: dict[str, File | Folder], changed: dict[str, File | Folder | None]
) -> None:
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _collect(
    folder: Folder, at: str, keep: Keep, content: Content, found: dict[str, bytes | None]
) -> None:
    names = dict(folder.sure)
    for change in folder.changes:
        if keep(change.number):
            _change_names(names, change.names)
    for name, node in sorted(names.items()):
        path = f"{at}/{name}" if at else name
        if isinstance(node, File):
            found[path] = content(node)
        else:
            found[path] = None
            _collect(node, path, keep, content, found)


def _read(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        if path.is_dir():
            found.now[path.name] = _read(path)
        else:
            whole = path.read_bytes()
            found.now[path.name] = File(bytearray(whole), whole)
    found.sure = dict(found.now)
    return found


def write(state: dict[str, bytes | None], folder: Path) -> None:
    """Make a state in an empty folder."""
    for path, content in state.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def read(folder: Path) -> dict[str, bytes | None]:
    """The state that a folder is in."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in paths}


# -- what a file system may choose -----------------------------------------------------------------


def all_kept(disk: Disk) -> dict[str, bytes | None]:
    """No power cut: what the process itself saw (after a mere SIGKILL)."""
    return disk.state(lambda number: True, lambda file: bytes(file.now))


def all_lost(disk: Disk) -> dict[str, bytes | None]:
    """Nothing but what was promised."""
    return disk.state(lambda number: False, lambda file: file.sure)


def data_lost(disk: Disk) -> dict[str, bytes | None]:
    """Every name is there; what was not fsynced of a file's content is not."""
    return disk.state(lambda number: True, lambda file: file.sure)


def zeros(disk: Disk) -> dict[str, bytes | None]:
    """Every name and every length is there, with zeros for what was not fsynced."""
    return disk.state(
        lambda number: True,
        lambda file: (
            bytes(file.now) if file.sure == file.now else file.sure.ljust(len(file.now), b"\0")
        ),
    )


def names_lost(disk: Disk) -> dict[str, bytes | None]:
    """All content is there; names whose folder was not fsynced are as they were before."""
    return disk.state(lambda number: False, lambda file: bytes(file.now))


def journal(disk: Disk, generator: random.Random) -> dict[str, bytes | None]:
    """The names up to some moment, in their order, as a journal keeps them; content as it may be."""
    cut = generator.randint(0, disk.applied)
    return disk.state(lambda number: number < cut, lambda file: _some(file, generator))


def any_order(disk: Disk, generator: random.Random) -> dict[str, bytes | None]:
    """Each change of a name, and each file's content, kept or lost by itself."""
    chosen: dict[int, bool] = {}
    return disk.state(
        lambda number: chosen.setdefault(number, generator.random() < 0.5),
        lambda file: _some(file, generator),
    )


def _some(file: File, generator: random.Random) -> bytes:
    now, sure = bytes(file.now), file.sure
    if sure == now:
        return now
    half = now[: (len(sure) + len(now)) // 2] if now.startswith(sure) else sure
    return generator.choice([sure, now, half, sure.ljust(len(now), b"\0")])


FIXED = (all_lost, data_lost, zeros, names_lost)
RANDOM = (journal, any_order)
