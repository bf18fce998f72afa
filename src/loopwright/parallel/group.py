"""The process group: met once per process, with every rank or with a message that names who is missing."""

from __future__ import annotations

import atexit
import socket
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from loopwright.errors import StateError
from loopwright.parallel import current
from loopwright.parallel.failures import speak_plainly
from loopwright.parallel.standing import Standing
from loopwright.parallel.torchrun import Place, place
from loopwright.parallel.world import World

MEET_S = 300.0
"""Seconds that the first rank waits for the last one to come."""
LIMIT_S = 600.0
"""Seconds that a collective may take before it is an error, unless the run says otherwise."""


def join(limit_s: float | None = None) -> World | None:
    """Return the world of this process, meeting the other ranks at the first call; None when alone.

    A group that the program has initialised itself is used and left alone.

    Args:
        limit_s: seconds that a collective may take, also that the ranks may take to meet.

    Raises:
        StateError: a rank has not come, or the meeting place cannot be reached.
        UsageError: torchrun's variables are incomplete.
    """
    if not dist.is_available():
        return None
    if dist.is_initialized():
        if current.WORLD is None or current.WORLD.of is not dist.group.WORLD:
            current.WORLD = _of_the_program() if dist.get_world_size() > 1 else None
        return current.WORLD
    here = place()
    if here is None:
        return None
    limit_s = LIMIT_S if limit_s is None else limit_s
    store = _meet(here, min(MEET_S, limit_s), limit_s)
    current.WORLD = world = World(here.rank, here.size, here.local_rank)
    world.store, world.limit_s = store, limit_s
    world.standing = Standing(store, here.rank)
    speak_plainly(world)
    return world


def _of_the_program() -> World:
    here = place()
    rank, size = dist.get_rank(), dist.get_world_size()
    group = None
    if "cpu" not in dist.get_backend_config():
        group = dist.new_group(backend="gloo")
    world = World(rank, size, rank if here is None else here.local_rank, group)
    world.store = dist.PrefixStore("loopwright", dist.distributed_c10d._get_default_store())
    return world


def _meet(here: Place, wait_s: float, limit_s: float) -> Any:
    """Make the process group with all ranks; returns the store that they share."""
    at = f"{here.address}:{here.port}"
    try:
        store: Any = dist.TCPStore(
            here.address, here.port, here.size, here.rank == 0 and not here.agent_has_store,
            timeout=timedelta(seconds=wait_s), wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
        store = dist.PrefixStore(f"loopwright/{here.attempt}", store)
        store.set(f"here/{here.rank}", socket.gethostname())
    except (dist.DistError, RuntimeError) as error:
        raise StateError(
            f"rank {here.rank} of {here.size} cannot reach the meeting place {at} "
            f"({str(error).splitlines()[0]})",
            slug="rank-unreachable",
            hint="MASTER_ADDR and MASTER_PORT must lead to the machine of rank 0, through any firewall",
        ) from error
    names = [f"here/{rank}" for rank in range(here.size)]
    try:
        store.wait(names, timedelta(seconds=wait_s))
    except (dist.DistError, RuntimeError) as error:
        missing = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise StateError(
            f"rank {', '.join(missing[:8])}{more} of {here.size} has not come to {at} within {wait_s:g} s",
            slug="rank-missing",
            hint="look at that process's own output; every rank has to make its lw.Run",
        ) from error
    dist.init_process_group(
        _backend(), store=store, rank=here.rank, world_size=here.size,
        timeout=timedelta(seconds=limit_s),
    )  # fmt: skip
    atexit.register(_end)
    return store


def _backend() -> str:
    """Gloo for what the hosts tell each other, and the accelerator's own for its tensors."""
    if not torch.accelerator.is_available():
        return "gloo"
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return f"cpu:gloo,{kind.type}:{dist.get_default_backend_for_device(kind)}"


def _end() -> None:
    if current.WORLD is not None and current.WORLD.standing is not None:
        current.WORLD.standing.end()
    current.WORLD = None
    if dist.is_initialized():
        dist.destroy_process_group()
