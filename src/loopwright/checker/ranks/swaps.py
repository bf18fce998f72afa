"""The same calls in another order: PyTorch pairs them all the same, and mixes what does not belong together.

Seen where two ranks make the same calls, in another order, and come together again. What tells calls apart
is how they are written, function by function, and what they send: the key that a loop over a set or a dict
has chosen, or a parameter's name. That alone proves nothing, so each pair that does not belong together must
be one that nobody can have meant:

- chosen by a set or a dict on both ranks, an order that no program has made;
- parameters that are replicas: each has the same values on both ranks, and they are not each other's;
- or, where only the lines differ, sums or gathers to which each rank brought something. (Where each rank
  gives in turn, the others add zeros at another line. What is broadcast, receivers may name as they like.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from loopwright.checker.ranks.journal import SOMETHING, Book, Call

FARTHEST = 64
"""Calls after which two orders of lines have to be the same again; names may be any number."""
SUMS = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_tensor")
GATHERS = ("all_gather", "all_gather_into_tensor")
NAMED = (*SUMS, *GATHERS, "broadcast")
MIXING = ("SUM", "AVG")


def swapped(one: Book, other: Book) -> int | None:
    """Return the first index of the calls that two ranks make in another order; None where none is known."""
    at = 0
    while (here := one.calls.get(at)) is not None and (there := other.calls.get(at)) is not None:
        if _identity(here) == _identity(there):
            at += 1
            continue
        end = _together_again(one, other, at)
        if end is None:
            return None  # each rank has lines of its own
        if _is_a_mistake(one, other, at, end):
            return at
        at = end
    return None


def _together_again(one: Book, other: Book, at: int) -> int | None:
    """Return the index after which both have made the same calls."""
    more: Counter[Any] = Counter()
    uneven = 0
    index = at
    while index in one.calls and index in other.calls:
        for call, number in ((one.calls[index], 1), (other.calls[index], -1)):
            if not call.told.get("way"):
                return None
            identity = _identity(call)
            before = more[identity]
            more[identity] += number
            uneven += (more[identity] != 0) - (before != 0)
        index += 1
        if not uneven:
            return index
    return None


def _is_a_mistake(one: Book, other: Book, at: int, end: int) -> bool:
    pairs = [(one.calls[index], other.calls[index]) for index in range(at, end)]
    apart = [(here, there) for here, there in pairs if _identity(here) != _identity(there)]
    if any(_is_nobodys_order(*pair) or _mixes_replicas(pairs, *pair) for pair in apart):
        return True
    return end - at <= FARTHEST and all(
        _way(here) != _way(there) and _mixes(here) and _mixes(there) for here, there in apart
    )


def _is_nobodys_order(here: Call, there: Call) -> bool:
    """Whether a set or a dict has chosen on both ranks what is sent."""
    names = _name(here), _name(there)
    return all(one is not None and one[2] for one in names) and all(
        one.told["op"] in NAMED and (one.told["op"] not in SUMS or one.brings == SOMETHING)
        for one in (here, there)
    )


def _mixes_replicas(pairs: list[tuple[Call, Call]], here: Call, there: Call) -> bool:
    """Whether one parameter goes where another one is, and both ranks have the same of each."""
    names = _name(here), _name(there)
    if any(one is None or one[0] != "parameter" for one in names) or here.looks == there.looks:
        return False
    if here.told["op"] not in NAMED or there.told["op"] not in NAMED:
        return False
    ours = list(_looks((call for call, _ in pairs), names[1]))
    theirs = list(_looks((call for _, call in pairs), names[0]))
    return 0 not in (here.looks, there.looks) and here.looks in theirs and there.looks in ours


def _looks(calls: Iterator[Call], name: Any) -> Iterator[int]:
    return (one.looks for one in calls if _name(one) == name)


def _identity(call: Call) -> tuple[Any, ...]:
    return _way(call), _name(call)


def _way(call: Call) -> tuple[Any, ...]:
    return tuple(map(tuple, call.told.get("way", ())))


def _name(call: Call) -> tuple[Any, ...] | None:
    what = call.told.get("what")
    return None if what is None else tuple(what)


def _mixes(call: Call) -> bool:
    op, does = call.told["op"], call.told["key"][1]
    return call.brings == SOMETHING and (op in GATHERS or (op in SUMS and does in MIXING))
