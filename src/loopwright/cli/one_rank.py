"""A verb that torchrun itself has started, once for each rank: it sees one alone, and says how to see all."""

from __future__ import annotations

import os


def note(verb: str) -> list[str]:
    """Return what is to be said of a record of this process; nothing where it is no rank among several."""
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE", "")
    if rank is None or not size.isdigit() or int(size) < 2:
        return []
    said = f"rank {rank} of {size} was looked at by itself, and the ranks were not compared"
    return [f"{said}: loopwright {verb} -- torchrun --nproc-per-node … train.py does so"]
