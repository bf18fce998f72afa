"""Checkpoints in a folder: saved in the background, verified when read, the older ones pruned."""

from __future__ import annotations

import errno
import os
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from loopwright.checkpoint import catalog, disk, manifest, publish
from loopwright.checkpoint import format as layout
from loopwright.checkpoint.lock import RunLock
from loopwright.checkpoint.protection import Protection
from loopwright.checkpoint.retention import expendable
from loopwright.checkpoint.shards import Shards
from loopwright.checkpoint.snapshot import Snapshot
from loopwright.checkpoint.writer import Writer
from loopwright.errors import CheckpointError, LoopwrightWarning, StateError, UsageError
from loopwright.events import CheckpointRow


@dataclass(slots=True)
class Loaded:
    """What `Store.read` found; ``notes`` says which newer checkpoints were passed over, and why."""

    name: str
    state: Any
    meta: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """A state that was copied and not written."""

    packed: layout.Packed

    @property
    def bytes(self) -> int:
        """Bytes of its tensors."""
        return self.packed.bytes


class Store:
    """The checkpoints of one run.

    Nothing is created before the first save. Two saves never overlap. What a background write failed
    with is raised by the next call, whichever it is.

    Args:
        folder: where; made at the first save.
        keep: how many of the newest stay, at least 2; None keeps all. Protected ones stay besides.
        lock: the run's lock. With it the store cleans up after a crash when it opens, and proves
            before each save that the lock is still held; without it neither.
    """

    def __init__(self, folder: str | Path, *, keep: int | None = 2, lock: RunLock | None = None):
        if keep is not None and keep < 2:
            raise UsageError(
                f"keep={keep}: a store keeps at least 2 checkpoints",
                slug="keep-too-few",
                hint="keep=2: when the newest is damaged, a run goes on from the one before",
            )
        self.folder = Path(folder)
        self.keep = keep
        self._lock = lock
        self._pid = os.getpid()
        self._closed = False
        self._snapshot = Snapshot()
        self._holding = Snapshot()
        self._writer = Writer()
        self._written: deque[CheckpointRow] = deque()
        self._untrusted: set[str] = set()
        self._protection = Protection(self.folder)
        self._in_flight: str | None = None
        self.recovered = publish.recover(self.folder) if lock is not None else []

    def hold(self, state: Any) -> Held:
        """Copy a state into CPU memory, for a `save` that may come later; the copy before is given up."""
        packed = layout.pack(state)
        packed.tensors = self._holding.take(packed.tensors)
        return Held(packed)

    def save(
        self,
        state: Any,
        *,
        name: str,
        meta: dict[str, Any] | None = None,
        background: bool = False,
        protect: bool = False,
        before: Callable[[dict[str, Tensor]], dict[str, Any]] | None = None,
        shards: Shards | None = None,
    ) -> None:
        """Write a checkpoint; one of the same name is replaced.

        In the background the caller waits for the write before (if it still runs) and for the copy
        into CPU memory: 1 ms for 1 MB, 24 ms for 100 MB (83 ms the first time), one busy core.

        Args:
            state: a tree, see `loopwright.checkpoint.tree`, or what `hold` returned.
            name: letters, digits, ``.``, ``_``, ``-``.
            meta: small plain values for listings: ``turn``, ``reason``, metrics.
            background: return as soon as the tensors are copied.
            protect: never delete this one, see `protect`.
            before: called with the tensors where the checkpoint is written, just before it; what it
                returns is added to the meta. With ``finite: False`` a checkpoint does not count among
                those that are kept.
            shards: what other processes write of it.

        Raises:
            UnsupportedState: a value that cannot be stored, by its path; nothing was written.
            DiskError: no room, no permission; earlier checkpoints are as they were.
            CheckpointError: the lock was lost to another process.
        """
        self._ready()
        catalog.check_name(name)
        packed = state.packed if isinstance(state, Held) else layout.pack(state)
        packed.meta = layout.pack_meta(meta)
        if self._lock is not None:
            self._lock.renew()
        self._in_flight = name
        if not background:
            self._write(name, packed, protect, before, shards)
            return
        if not isinstance(state, Held):
            packed.tensors = self._snapshot.take(packed.tensors)
        self._writer.start(lambda: self._write(name, packed, protect, before, shards))

    def _write(
        self, name: str, packed: layout.Packed, protect: bool, prepare: Any, shards: Shards | None
    ) -> None:
        size = packed.bytes + (0 if shards is None else shards.bytes)
        if size > disk.free_bytes(self.folder):
            raise disk.no_room(f"write checkpoint {name!r}", self.folder, size)
        if prepare is not None:
            packed.meta["dict"].update(prepare(packed.tensors))
        before = catalog.entries(self.folder)
        number = catalog.next_sequence(before)
        made = publish.publish(self.folder, name, packed, number, shards)
        self._untrusted.discard(name)
        self._written.append(_row(name, made, layout.read_meta(made, self.folder / name)))
        if protect:
            self._protection.add(name)
        # An entry without a manifest may not be ours: it stays.
        known = [entry.name for entry in before if entry.manifest and entry.name != name] + [name]
        with self._protection.frozen() as protected:
            untrusted = self._untrusted | self._not_finite(before)
            if packed.meta["dict"].get("finite") is False:
                untrusted.add(name)
            gone = expendable(known, keep=self.keep, protected=protected, untrusted=untrusted)
            for old in gone:
                publish.discard(self.folder, old)

    def _not_finite(self, entries: list[catalog.Entry]) -> set[str]:
        """Return those whose weights were not finite when they were written."""
        return {
            entry.name
            for entry in entries
            if entry.manifest is not None
            and layout.read_meta(entry.manifest, self.folder / entry.name).get("finite") is False
        }

    def written(self) -> list[CheckpointRow]:
        """Return what was completed since the last call, without waiting."""
        return [self._written.popleft() for _ in range(len(self._written))]

    @property
    def busy(self) -> bool:
        """Whether a background write is in flight."""
        return self._writer.busy

    @property
    def background_seconds(self) -> float:
        """Seconds of a processor's time that the last background write took."""
        return self._writer.seconds

    def wait(self) -> None:
        """Wait for the write in flight; raises what it failed with."""
        self._same_process()
        self._writer.wait()

    def names(self) -> list[str]:
        """Return the checkpoints' names, oldest first, damaged ones included."""
        return [entry.name for entry in self._entries()]

    def latest(self) -> str | None:
        """Return the name of the newest checkpoint, damaged or not; None when there is none."""
        names = self.names()
        return names[-1] if names else None

    def rows(self) -> list[CheckpointRow]:
        """Return one row for each checkpoint with a sound manifest, oldest first."""
        return [
            _row(
                entry.name,
                entry.manifest,
                layout.read_meta(entry.manifest, self.folder / entry.name),
            )
            for entry in self._entries()
            if entry.manifest is not None
        ]

    def meta(self, name: str) -> dict[str, Any]:
        """Return a checkpoint's meta without reading its state."""
        entry = self._find(name)
        if entry.manifest is None:
            raise entry.why or CheckpointError(
                f"{name!r} has no manifest", slug="checkpoint-damaged"
            )
        return layout.read_meta(entry.manifest, self.folder / name)

    def read(self, name: str | None = None) -> Loaded:
        """Read a checkpoint, verifying every byte.

        Args:
            name: exactly this one; None: the newest that is sound.

        Raises:
            CheckpointError: there is none, the named one is damaged, all are damaged, or the newest
                was made by a newer Loopwright.
        """
        if name is not None:
            self._find(name)
            return Loaded(name, *layout.read(self.folder / name))
        passed: list[CheckpointError] = []
        candidates = self._entries()
        for entry in reversed(candidates):
            try:
                loaded = Loaded(entry.name, *layout.read(self.folder / entry.name))
            except manifest.DamagedCheckpoint as error:
                self._untrusted.add(entry.name)
                passed.append(error)
                continue
            loaded.notes = [f"{error.what}; going on from {entry.name!r}" for error in passed]
            return loaded
        raise self._nothing_to_load(passed)

    def load(self, name: str | None = None) -> tuple[Any, dict[str, Any]]:
        """Return the state and the meta of `read`; a damaged newer checkpoint is a warning."""
        loaded = self.read(name)
        for note in loaded.notes:
            warnings.warn(note, LoopwrightWarning, stacklevel=2)
        return loaded.state, loaded.meta

    def verify(self) -> dict[str, list[str]]:
        """Read every checkpoint and return what is wrong with each; an empty list is a sound one."""
        return {name: manifest.verify(self.folder / name) for name in self.names()}

    def protect(self, name: str) -> None:
        """Never delete this checkpoint, also in later processes, until `unprotect`; does not wait."""
        self._same_process()
        if name != self._in_flight and not (self.folder / catalog.check_name(name)).is_dir():
            raise catalog.missing(self.folder, name, self.names())
        self._protection.add(name)

    def unprotect(self, name: str) -> None:
        """Let retention have this checkpoint again; an unknown name is ignored; does not wait."""
        self._same_process()
        self._protection.discard(name)

    @property
    def protected(self) -> frozenset[str]:
        """The names that are never deleted."""
        return self._protection.names

    def room_for(self, size: int, *, copies: int = 2) -> None:
        """Check that the disk takes that many checkpoints, fewer where some are there already.

        Args:
            size: bytes of one, see `loopwright.checkpoint.size_of`.
            copies: how many in all.

        Raises:
            DiskError: no room, or no permission to write; names the MB needed and free.
        """
        needed = size * max(1, copies - len(self.names()))
        if needed > disk.free_bytes(self.folder):
            raise disk.no_room("keep checkpoints here", self.folder, needed)
        place = disk.nearest(self.folder)
        with disk.failures("keep checkpoints here", place):
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(place))
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "no permission", str(place))

    def close(self) -> None:
        """Wait for the write in flight and free the buffers; the second time does nothing."""
        if not self._closed and os.getpid() == self._pid:
            self._closed = True
            self._snapshot.release()
            self._holding.release()
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ready(self) -> None:
        if self._closed:
            raise StateError(f"the store of {self.folder} is closed", slug="store-closed",
                             hint="open a new one: Store(folder)")  # fmt: skip
        self.wait()

    def _same_process(self) -> None:
        if os.getpid() != self._pid:
            raise StateError(
                f"the store of {self.folder} belongs to process {self._pid}, this is its child {os.getpid()}",
                slug="store-in-child",
                hint="save from the process that trains, not from a DataLoader worker",
            )

    def _entries(self) -> list[catalog.Entry]:
        self.wait()
        return catalog.entries(self.folder)

    def _find(self, name: str) -> catalog.Entry:
        catalog.check_name(name)
        found = self._entries()
        for entry in found:
            if entry.name == name:
                return entry
        raise catalog.missing(self.folder, name, [entry.name for entry in found])

    def _nothing_to_load(self, passed: list[CheckpointError]) -> CheckpointError:
        if not passed:
            return CheckpointError(
                "there is no checkpoint", slug="no-checkpoint", where=str(self.folder)
            )
        reasons = "; ".join(error.what for error in passed)
        return CheckpointError(
            f"all {len(passed)} checkpoints are damaged: {reasons}",
            slug="all-checkpoints-damaged",
            where=str(self.folder),
            hint="restore the folder from a copy, or start again in another one",
        )


def _row(name: str, made: manifest.Manifest, meta: dict[str, Any]) -> CheckpointRow:
    turn = meta.get("turn")
    return CheckpointRow(
        name=name,
        turn=turn if isinstance(turn, int) else 0,
        bytes=made.bytes,
        reason=str(meta.get("reason", "")),
    )
