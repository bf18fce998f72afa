"""Bytecode in one language: the same names for the same things in every Python."""

from __future__ import annotations

import pytest

from loopwright.observe.instructions import instructions


def both(a, b):
    kept = a
    other = b
    kept, other = other, kept
    return kept.size(other)


def constant(_):
    return 3


def names(function, *kinds):
    return [
        (one.opname, one.argval) for one in instructions(function.__code__) if one.opname in kinds
    ]


def test_loads_and_stores_are_told_one_by_one():
    """However many of them an instruction of this Python does at once."""
    stores = [name for _, name in names(both, "STORE_FAST")]
    assert stores[:2] == ["kept", "other"]
    assert sorted(stores[2:]) == ["kept", "other"]
    loads = [name for _, name in names(both, "LOAD_FAST")]
    assert loads[:2] == ["a", "b"]
    assert sorted(loads[2:]) == ["kept", "kept", "other", "other"]


@pytest.mark.parametrize("function", [both, constant])
def test_every_return_is_a_return(function):
    """Also of a constant, which some Pythons return in one instruction."""
    assert names(function, "RETURN_VALUE", "RETURN_CONST") == [("RETURN_VALUE", None)]


def test_parts_lie_where_the_whole_lies():
    """Offsets are those of real instructions, in order."""
    offsets = [one.offset for one in instructions(both.__code__)]
    assert offsets == sorted(offsets)
    assert max(offsets) < len(both.__code__.co_code)
