"""What torchrun tells each of its processes, by environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass

from loopwright.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """One process among several; ``agent_has_store``: torchrun's agent serves the address and the port."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    agent_has_store: bool


def place() -> Place | None:
    """Return this process's place among several; None where it trains alone.

    Raises:
        UsageError: the variables are incomplete or no numbers.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    size, rank = _number("WORLD_SIZE"), _number("RANK")
    if not 0 <= rank < size:
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={size}: a rank is a number below the world size",
            slug="torchrun-environment", hint="torchrun sets both; so should whatever replaces it",
        )  # fmt: skip
    return Place(
        rank=rank,
        size=size,
        local_rank=_number("LOCAL_RANK", rank),
        address=_text("MASTER_ADDR"),
        port=_number("MASTER_PORT"),
        agent_has_store=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def ranks_of_a_machine(size: int) -> int:
    """Return how many of ``size`` ranks are on this machine; all where nobody has said."""
    return _number("LOCAL_WORLD_SIZE", size)


def _text(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise UsageError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, and {name} is not set",
            slug="torchrun-environment",
            hint="start the program with torchrun --nproc-per-node 2 train.py, or unset WORLD_SIZE",
        )
    return value


def _number(name: str, otherwise: int | None = None) -> int:
    if otherwise is not None and name not in os.environ:
        return otherwise
    value = _text(name)
    try:
        return int(value)
    except ValueError:
        raise UsageError(
            f"{name}={value!r} is not a whole number", slug="torchrun-environment",
            hint="torchrun sets it",
        ) from None  # fmt: skip
