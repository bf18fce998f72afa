"""A checkpoint that every rank writes a file of, in the background; the first one's manifest vouches for all.

The ranks speak through the store that they share, by key: collective calls of a second thread would come
between those of the training.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from loopwright.checkpoint.manifest import FileEntry
from loopwright.checkpoint.shards import Shards, placeholder, write_part
from loopwright.errors import CheckpointError, DiskError, LoopwrightError
from loopwright.parallel.sharding import is_sharded
from loopwright.parallel.world import World

SLICE_S = 1.0
"""Seconds after which a wait for another rank looks whether it is still of use."""
GONE_S = 15.0
"""Seconds without a sign of life after which a rank is taken to have gone."""


class ShardWriter:
    """One rank's share in the checkpoints of a run. Two of them never overlap.

    Args:
        world: the ranks.
        writers: so many of them write; the others hold the same parts again.
    """

    def __init__(self, world: World, writers: int):
        self._world = world
        self._writers = writers
        self._count = 0
        self._thread: threading.Thread | None = None
        self._failed: LoopwrightError | None = None

    def begin(self, parts: dict[str, Tensor], bytes_of_all: int) -> Shards | None:
        """Begin to write this rank's part; returns on the first rank what its store waits for.

        Args:
            parts: copies, in host memory.
            bytes_of_all: of all ranks' parts.
        """
        self.wait()
        self._count += 1
        number = self._count
        if self._world.is_first:
            return Shards(bytes_of_all, lambda place: self._write_with_all(place, parts, number))
        if self._world.rank >= self._writers:
            return None
        # A daemon: where the first rank has gone, this process must not wait for it at its end.
        self._thread = threading.Thread(
            target=self._write_when_asked, args=(parts, number),
            name="loopwright-shards", daemon=True,
        )  # fmt: skip
        self._thread.start()
        return None

    def wait(self) -> None:
        """Wait for the write in flight; raises what it failed with."""
        if self._thread is not None:
            self._thread.join(
                self._world.limit_s
            )  # longer: the store does not answer, its machine is gone
            self._thread = None
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error

    # -- the first rank ----------------------------------------------------------------------------

    def _write_with_all(
        self, place: Path, parts: dict[str, Tensor], number: int
    ) -> tuple[dict[str, FileEntry], bool]:
        size, store = self._writers, self._world.store
        store.set(f"shards/{number}/place", str(place.resolve()))
        told = {0: self._write(place, parts)}
        for rank in range(1, size):
            said = self._hear(f"shards/{number}/{rank}", rank)
            if said is None:
                raise CheckpointError(
                    f"rank {rank} has not written its part of {place.name.removeprefix('.tmp-')} "
                    f"within {self._world.limit_s:g} s",
                    slug="shard-missing", where=str(place.parent),
                    hint="the checkpoints before are as they were; look at that rank's output",
                )  # fmt: skip
            told[rank] = json.loads(said)
            if "error" in told[rank]:
                raise DiskError(
                    f"rank {rank}: {told[rank]['error']}",
                    slug="shard-missing",
                    where=str(place.parent),
                )
            if not (place / told[rank]["name"]).exists():
                raise CheckpointError(
                    f"the file that rank {rank} has written is not in this rank's folder",
                    slug="shard-missing", where=str(place.parent),
                    hint="out= has to be on a file system that all machines share",
                )  # fmt: skip
        entries = {one["name"]: FileEntry(one["bytes"], one["sha256"]) for one in told.values()}
        return entries, all(one["finite"] for one in told.values())

    def _hear(self, key: str, rank: int) -> bytes | None:
        """Return what a rank has said; None where it has not in time, or where it or this one has gone."""
        world = self._world
        now = heard = time.monotonic()
        end, sign = now + world.limit_s, None
        while not world.ending.is_set() and now < end and now - heard < GONE_S:
            try:
                world.store.wait([key], timedelta(seconds=SLICE_S))
                return world.store.get(key)
            except dist.DistNetworkError:  # the store's process has gone
                return None
            except RuntimeError:  # this slice of the time is up
                now = time.monotonic()
            if world.standing is None or (new := world.standing.sign_of(rank)) != sign:
                heard, sign = now, None if world.standing is None else new
        return None

    # -- every rank --------------------------------------------------------------------------------

    def _write_when_asked(self, parts: dict[str, Tensor], number: int) -> None:
        place = self._hear(f"shards/{number}/place", 0)
        if place is None:  # the first rank says why it has not begun
            return
        try:
            said = self._write(Path(place.decode()), parts)
        except (OSError, LoopwrightError) as error:
            self._failed = error if isinstance(error, LoopwrightError) else DiskError(
                f"cannot write a shard: {error}", slug="disk-failed", where=place.decode()
            )  # fmt: skip
            said = {"error": str(error)}
        self._world.store.set(f"shards/{number}/{self._world.rank}", json.dumps(said))

    def _write(self, place: Path, parts: dict[str, Tensor]) -> dict[str, Any]:
        name, entry = write_part(place, self._world.rank, self._writers, parts)
        finite = all(
            bool(torch.isfinite(part).all())
            for label, part in parts.items()
            if label.startswith("models/") and part.is_floating_point()
        )
        return {"name": name, "bytes": entry.bytes, "sha256": entry.sha256, "finite": finite}


def split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """Return a state with placeholders, copies of this rank's parts by name, and the bytes of all ranks'."""
    parts: dict[str, Tensor] = {}
    whole = [0]

    def walk(tree: Any, path: str) -> Any:
        if isinstance(tree, dict):
            return {key: walk(value, f"{path}/{key}") for key, value in tree.items()}
        if type(tree) in (list, tuple):
            return type(tree)(walk(value, f"{path}/{i}") for i, value in enumerate(tree))
        if not is_sharded(tree):
            return tree
        parts[path] = tree.detach().to_local().to("cpu", copy=True).contiguous()
        whole[0] += tree.numel() * tree.element_size()
        *_, placement = tree.placements  # the one over the replicas comes before it
        return placeholder(path, placement.dim)

    made = dict(state)
    for kind in ("models", "optimizers", "ema"):
        made[kind] = walk(state[kind], kind)
    return made, parts, whole[0]
