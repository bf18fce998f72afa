"""How often something was seen at a place, with the first sight's details."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loopwright.observe.sites import Site


@dataclass(slots=True)
class Seen:
    """One thing, seen ``count`` times; ``sites`` by role ("step"), ``facts`` of the latest look."""

    count: int = 0
    sites: dict[str, Site] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Tally:
    """Counts by key; at most ``limit`` keys, further ones are not kept."""

    def __init__(self, limit: int = 256):
        self._seen: dict[Hashable, Seen] = {}
        self._limit = limit

    def add(self, key: Hashable, /, **sites: Site | None) -> Seen:
        """One more of ``key``; returns its record."""
        found = self._seen.get(key)
        if found is None:
            found = Seen()
            if len(self._seen) < self._limit:
                self._seen[key] = found
        found.count += 1
        for role, site in sites.items():
            if site is not None:
                found.sites.setdefault(role, site)
        return found

    def get(self, key: Hashable) -> Seen:
        """The record of ``key``; an empty one if it was never seen."""
        return self._seen.get(key) or Seen()

    def items(self) -> Iterator[tuple[Any, Seen]]:
        """Keys and records, in the order of first sight."""
        yield from list(self._seen.items())

    def values(self) -> Iterator[Seen]:
        """The records alone."""
        yield from list(self._seen.values())

    def __bool__(self) -> bool:
        return bool(self._seen)
