"""The process group: met once per process, with every rank or with a message that names who is missing."""

from __future__ import annotations

import atexit
import socket
import time
import uuid
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from loopwright import uncaught
from loopwright.errors import StateError
from loopwright.parallel import current
from loopwright.parallel.failures import speak_plainly
from loopwright.parallel.standing import Standing
from loopwright.parallel.torchrun import Place, place
from loopwright.parallel.world import World, settle

MEET_S = 300.0
"""Seconds that the first rank waits for the last one to come."""
LOOK_S = 0.1
"""Seconds between two looks whether rank 0 has come."""
PROBE_S = 5.0
"""Seconds in which a port has to answer that rank 0 is said to be at."""
LIMIT_S = 600.0
"""Seconds that a collective may take before it is an error, unless the run says otherwise."""


def join(limit_s: float | None = None, *, also_alone: bool = False) -> World | None:
    """Return the world of this process, meeting the other ranks at the first call; None when alone.

    A group that the program has initialised itself is used and left alone.

    Args:
        limit_s: seconds that a collective may take, also that the ranks may take to meet.
        also_alone: a group of one, which the program has initialised, is a world too.

    Raises:
        StateError: a rank has not come, or the meeting place cannot be reached.
        UsageError: torchrun's variables are incomplete.
    """
    if not dist.is_available():
        return None
    if dist.is_initialized():
        if also_alone and dist.get_world_size() == 1:
            return _of_the_program()
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
    try:
        store = _store(here, wait_s)
        store.set(f"here/{here.rank}", socket.gethostname())
    except StateError:
        raise
    except (dist.DistError, RuntimeError) as error:
        raise StateError(
            f"rank {here.rank} of {here.size} cannot reach the meeting place {here.address}:{here.port} "
            f"({str(error).splitlines()[0]})",
            slug="rank-unreachable",
            hint="MASTER_ADDR and MASTER_PORT must lead to the machine of rank 0, through any firewall",
        ) from error
    names = [f"here/{rank}" for rank in range(here.size)]
    try:
        store.wait(names, timedelta(seconds=wait_s))
    except (dist.DistError, RuntimeError) as error:
        missing = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
        raise _missing(here, missing, wait_s) from error
    uncaught.install()  # before PyTorch's own hook, which puts the rank in front of what others print
    dist.init_process_group(
        _backend(), store=store, rank=here.rank, world_size=here.size,
        timeout=timedelta(seconds=limit_s),
    )  # fmt: skip
    atexit.register(_end)
    return store


def _missing(here: Place, ranks: list[str], wait_s: float) -> StateError:
    more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
    return StateError(
        f"rank {', '.join(ranks[:8])}{more} of {here.size} has not come to {here.address}:{here.port} "
        f"within {wait_s:g} s",
        slug="rank-missing",
        hint="look at that process's own output; every rank has to make its lw.Run",
    )


def _store(here: Place, wait_s: float) -> Any:
    """Return a store of rank 0's process: nothing is in it of a process that a restart has replaced.

    torchrun's agent may have one too. It lives through restarts, in which the number of ranks may change,
    and each agent counts them for itself: so it only says where this round's store is.
    """
    meeting = _tcp(here, here.port, wait_s, serves=here.rank == 0 and not here.agent_has_store)
    if not here.agent_has_store:
        return dist.PrefixStore("loopwright", meeting)
    if here.rank == 0:
        store = _tcp(here, 0, wait_s, serves=True)
        word = uuid.uuid4().hex
        store.set("word", word)
        meeting.set("loopwright/at", f"{store.port} {word}")
        return store
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        if meeting.check(["loopwright/at"]):
            port, _, word = meeting.get("loopwright/at").decode().partition(" ")
            if (store := _said(here, int(port), word)) is not None:
                store.set_timeout(timedelta(seconds=wait_s))
                return store
        time.sleep(LOOK_S)
    raise _missing(here, ["0"], wait_s)


def _tcp(here: Place, port: int, wait_s: float, *, serves: bool) -> dist.TCPStore:
    return dist.TCPStore(
        here.address, port, here.size, serves,
        timeout=timedelta(seconds=wait_s), wait_for_workers=False, multi_tenant=True,
    )  # fmt: skip


def _said(here: Place, port: int, word: str) -> dist.TCPStore | None:
    """Return the store at a port if it has that word: an ended process's port may be somebody else's."""
    try:
        socket.create_connection((here.address, port), timeout=PROBE_S).close()
        store = _tcp(here, port, PROBE_S, serves=False)
        return store if store.get("word").decode() == word else None
    except (OSError, RuntimeError):
        return None


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
    settle()
    if dist.is_initialized():
        dist.destroy_process_group()
