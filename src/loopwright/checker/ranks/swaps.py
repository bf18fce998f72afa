"""Sums of one kind that two ranks come to in another order.

PyTorch pairs them all the same, and each rank goes on with sums of what does not belong together. Seen where
two ranks make the same calls, function by function as they are written, in another order, and come together
again. That alone proves nothing: where each rank gives in turn, the others add zeros at another line. So
each rank must have brought something to each of these sums. One line in a loop over names has one text only.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from loopwright.checker.ranks.journal import SOMETHING, Book, Call

FARTHEST = 64
"""Calls after which two orders have to be the same again."""
MIXING = ("SUM", "AVG")


def swapped(one: Book, other: Book) -> int | None:
    """Return the first index of the calls that two ranks make in another order; None where none is known."""
    at = 0
    while (here := one.calls.get(at)) is not None and (there := other.calls.get(at)) is not None:
        if _way(here) == _way(there):
            at += 1
            continue
        end = _together_again(one, other, at)
        if end is None:
            return None  # each rank has lines of its own
        if all(_adds(book.calls[index]) for book in (one, other) for index in range(at, end)):
            return at
        at = end
    return None


def _together_again(one: Book, other: Book, at: int) -> int | None:
    """Return the index after which both have made the same calls."""
    more: Counter[Any] = Counter()
    for index in range(at, at + FARTHEST):
        if index not in one.calls or index not in other.calls:
            return None
        for call, number in ((one.calls[index], 1), (other.calls[index], -1)):
            if not call.told.get("way"):
                return None
            more[_way(call)] += number
        if not any(more.values()):
            return index + 1
    return None


def _way(call: Call) -> tuple[Any, ...]:
    return tuple(map(tuple, call.told.get("way", ())))


def _adds(call: Call) -> bool:
    return call.brings == SOMETHING and call.told["key"][1] in MIXING
