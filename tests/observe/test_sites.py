"""Call sites resolve to the file, line and columns of the program's own expression."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from loopwright.observe.sites import (
    LIBRARY,
    TORCH,
    USER,
    after_in_loop,
    kind_of,
    site,
    stack,
    variables,
)
from loopwright.observe.storing import cuts_of_result, gives_argument, returned_at, stored_at


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


class Parts(torch.nn.Module):
    """Returns at one place, or at two."""

    @torch.no_grad()
    def hidden(self, x):
        return x

    def weighed(self, x):
        return x

    def forward(self, x):
        score = here()
        kept = [self.weighed(score)]
        kept += [self.hidden(score)]
        return kept

    def either(self, x):
        if x is None:
            return torch.zeros(1)
        return torch.ones(1)


def test_where_a_result_was_returned():
    """The one return of a method, of a module or of a function; none where there are two, or no call."""
    import sys

    parts = Parts()
    lines = Path(__file__).read_text().splitlines()
    one = parts.weighed(torch.ones(1))
    two = parts(torch.ones(1))
    three = parts.either(1)
    four = torch.ones(1)
    frame = sys._getframe()
    found = [returned_at(frame, value) for value in (one, two, three, four)]
    assert lines[found[0].line - 1].strip() == "return x"
    assert lines[found[1].line - 1].strip() == "return kept"
    assert found[2:] == [None, None]


def test_where_a_result_loses_its_graph():
    """detach() of the variable, a block without gradients that reads it, a decorated method given it."""
    lines = Path(__file__).read_text().splitlines()

    def cut_at(call):
        return [lines[one.line - 1].strip() for one in cuts_of_result(call, Parts)]

    def detached():
        score = here()
        other = torch.ones(1).detach()
        return score.detach if other is None else score

    def blocked():
        score = here()
        with torch.no_grad():
            return score, 1

    def elsewhere():
        score = here()
        seen = [score]
        with torch.no_grad():
            return seen, torch.ones(1).detach()

    assert cut_at(Parts()(None)[0]) == ["kept += [self.hidden(score)]"]
    assert cut_at(detached()) == ["return score.detach if other is None else score"]
    assert cut_at(blocked()[0]) == ["with torch.no_grad():"]
    assert cut_at(elsewhere()[0][0]) == []


def test_where_a_value_was_stored():
    """The line that put a value into a variable is found by the value's identity."""
    first = torch.ones(1)
    second = torch.ones(1)
    place = stored_at(sys._getframe(), second)
    assert "second = torch.ones(1)" in Path(__file__).read_text().splitlines()[place.line - 1]
    assert first is not second


def test_variables_of_a_module_are_its_globals(tmp_path):
    """They are those of now, also after they were asked for inside a comprehension (Python 3.12)."""
    text = "for x in range(3):\n    kept = [ask() for y in [x]]\n    ask()\n"
    found = []

    def ask():
        frame = sys._getframe(1)
        while frame.f_code.co_name != "<module>":
            frame = frame.f_back
        found.append(variables(frame)["x"])

    exec(compile(text, str(tmp_path / "program.py"), "exec"), {"ask": ask, "__name__": "__main__"})
    assert found == [0, 0, 1, 1, 2, 2]
