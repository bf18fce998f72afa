"""Which names a function of the program can touch: for saying that it leaves something alone."""

from __future__ import annotations

from types import CodeType, FunctionType, ModuleType
from typing import Any

from loopwright.observe.sites import USER, kind_of


def names_below(function: Any, unknown: set[str], depth: int = 4) -> set[str]:
    """The names that a function, and those of the program that it calls by name, read or write.

    Args:
        function: the program's; a ``functools.partial`` of it counts as it.
        unknown: what is added where anything may be done: in what is no plain Python, or another module of
            the program.
        depth: how many calls deep.
    """
    function = getattr(function, "func", function)
    code = getattr(function, "__code__", None)
    if code is None or depth == 0:
        return unknown
    found: set[str] = set()
    pending = [code]
    while pending:
        one = pending.pop()
        found |= {*one.co_names, *one.co_varnames, *one.co_freevars}
        pending += [inner for inner in one.co_consts if isinstance(inner, CodeType)]
    known = getattr(function, "__globals__", {})
    for name in sorted(found):
        called = known.get(name)
        if isinstance(called, FunctionType) and kind_of(called.__code__.co_filename) == USER:
            found |= names_below(called, unknown, depth - 1)
        elif (
            isinstance(called, ModuleType)
            and kind_of(getattr(called, "__file__", None) or "<frozen") == USER
        ):
            found |= unknown
    return found
