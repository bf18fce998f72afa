"""A world of one: what a share asks of all ranks, where one process goes on with what several have begun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.parallel.world import World


class OneRank(World):
    """The only rank; without a process group, so it can be asked for nothing but what is here."""

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        self.local_rank = 0

    def exchange(self, value: Any) -> list[Any]:
        """Return the value."""
        return [value]

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(numbers)

    def first(self, value: Any = None, *, of: int = 0) -> Any:  # noqa: ARG002
        """Return the value."""
        return value
