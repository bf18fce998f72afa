"""Which processes trained together: a program may launch its ranks several times, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def worlds(
    processes: Iterable[T], same: Callable[[T], object], span: Callable[[T], tuple[float, float]]
) -> list[list[T]]:
    """Processes that ran at the same time, with the same address to meet at.

    Args:
        processes: in any order.
        same: what those that belong together have in common.
        span: from when to when one ran, or is known to have run.
    """
    found: list[list[T]] = []
    for one in sorted(processes, key=lambda it: span(it)[0]):
        last = next((it for it in reversed(found) if same(it[0]) == same(one)), None)
        if last is not None and span(one)[0] < max(span(it)[1] for it in last):
            last.append(one)
        else:
            found.append([one])
    return found
