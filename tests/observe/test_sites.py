"""Call sites resolve to the file, line and columns of the program's own expression."""

from __future__ import annotations

from pathlib import Path

import torch

from loopwright.observe.sites import LIBRARY, TORCH, USER, after_in_loop, kind_of, site, stack
from loopwright.observe.storing import gives_argument, stored_at


def here():
    return site(1)


def test_columns():
    """The place of a call has the columns of the whole expression."""
    place = [here(), 7][0].position()
    line = Path(__file__).read_text().splitlines()[place.line - 1]
    assert line[place.column - 1 : place.end_column - 1] == "here()"


def test_columns_after_wide_characters():
    """Columns count characters, not bytes."""
    place = ["äöü€", here()][1].position()
    line = Path(__file__).read_text().splitlines()[place.line - 1]
    assert line[place.column - 1 : place.end_column - 1] == "here()"


def test_the_same_place_is_one_site():
    """A place in a loop is one object, two places are two."""
    found = {id(here()) for _ in range(3)}
    assert len(found) == 1
    assert here() is not here()


def test_whose_file():
    """torch's files, Python's, installed ones, and the program's are told apart."""
    import json

    import pytest

    assert kind_of(torch.__file__) == TORCH
    assert kind_of(json.__file__) == kind_of(pytest.__file__) == LIBRARY
    assert kind_of(__file__) == kind_of("<stdin>") == kind_of("/somewhere/train.py") == USER


def test_through_a_library():
    """When a library calls, the site knows both the library and the line of the program."""
    found = next(iter(sorted([0], key=lambda _: 0)))  # keeps the line below alone
    assert found == 0
    import functools

    seen = functools.reduce(lambda _, __: here(), [1, 2])
    assert seen.position().file == __file__


def test_order_in_a_loop():
    """A call after the step, in the same frame, is after it; one before is not."""
    for _ in range(1):
        before = stack(0)
        step = stack(0)
        after = stack(0)
    assert after_in_loop(after, step)
    assert not after_in_loop(before, step)


def test_which_arguments_a_call_gives():
    """A call that leaves an argument to its default is told from one that gives it."""

    def call(x, p=0.5, training=True):
        return site(1)

    assert not gives_argument(call(1, p=0.3), 2, "training")
    assert gives_argument(call(1, training=True), 2, "training")
    assert gives_argument(call(1, 0.5, True), 2, "training")
    assert gives_argument(call(*[1, 0.5, True]), 2, "training")


def test_where_a_value_was_stored():
    """The line that put a value into a variable is found by the value's identity."""
    import sys

    first = torch.ones(1)
    second = torch.ones(1)
    place = stored_at(sys._getframe(), second)
    assert "second = torch.ones(1)" in Path(__file__).read_text().splitlines()[place.line - 1]
    assert first is not second
