"""Statements and loops of a text, by line."""

from __future__ import annotations

import ast
import sys
import textwrap

from loopwright.explainer.follow import source as follow
from loopwright.explainer.follow.source import parse

TEXT = textwrap.dedent(
    """
    import torch

    @torch.no_grad()
    def evaluate(model,
                 data):
        for x in data:
            y = model(
                x
            )
        return y

    while True:
        if y:
            a, (b, *c) = f()
            self.x[0] = 1
        for i in range(3):
            optimizer.step()
        else:
            done = True
    """
).lstrip()


def starting(source, text):
    """The statement whose line begins with ``text``."""
    number = 1 + next(
        at for at, line in enumerate(TEXT.splitlines()) if line.strip().startswith(text)
    )
    return source.by_line[number]


def test_every_statement_has_its_lines():
    """A simple statement has all of its lines, a compound one those of its head."""
    source = parse(TEXT)
    assert (starting(source, "y =").line, starting(source, "y =").end_line) == (7, 9)
    head = starting(source, "@torch")
    assert (head.line, head.end_line) == (3, 5)
    assert starting(source, "x") is starting(source, "y =")


def test_loops_are_nested():
    """A statement knows its loops, the outermost first; a head is in its own; a function begins anew."""
    source = parse(TEXT)
    step = starting(source, "optimizer")
    assert [loop.line for loop in step.loops] == [12, 16]
    assert starting(source, "for i").heads is step.loops[1]
    assert [loop.line for loop in starting(source, "done").loops] == [12]
    assert [loop.function for loop in starting(source, "y =").loops] == ["evaluate"]
    assert starting(source, "return").loops == ()


def test_what_is_assigned():
    """Names and attributes that a statement assigns, and the object that a method is called on."""
    source = parse(TEXT)
    assert starting(source, "a, (b").stores == ("a", "b", "c")
    assert starting(source, "self.x").stores == ("self.x",)
    assert starting(source, "for i").stores == ("i",)
    assert starting(source, "optimizer").stores == ("optimizer",)


def test_no_python():
    """A text that is no Python has no statements."""
    assert parse("for (;;)") is None


def test_statements_of_one_line_are_one():
    """The last one stands for the line; it assigns what all of them do, the loop's variable included."""
    source = parse("a = f(); b = g()\nfor p in ps: p.grad = None; c = p\nif a: d = 1\n")
    assert source.by_line[1].stores == ("a", "b")
    assert [ast.unparse(one) for one in source.by_line[1].nodes] == ["a = f()", "b = g()"]
    assert set(source.by_line[2].stores) == {"p", "p.grad", "c"}
    assert [ast.unparse(one) for one in source.by_line[2].nodes] == ["p.grad = None", "c = p"]
    assert source.by_line[2].loops[-1].in_one_line
    assert source.by_line[3].nodes == (source.by_line[3].node,)


def test_what_a_command_generates(monkeypatch):
    """The methods of data classes and named tuples have the file of ``python -c`` and are no lines of it."""
    text = """
from collections import namedtuple
from dataclasses import dataclass

@dataclass
class Batch:
    x: int

    def twice(self):
        return [2 * self.x for _ in range(2)]

Pair = namedtuple("Pair", "a b")

def train():
    return Batch(1), Pair(1, 2)
"""
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", text])
    follow.fresh()
    space = {"__name__": "__main__"}
    program = compile(text, "<string>", "exec", dont_inherit=True)
    exec(program, space)
    batch = space["Batch"]
    for own in (program, space["train"].__code__, batch.twice.__code__):
        assert follow.source_of(own).text == text
    for made in (batch.__init__, batch.__eq__, space["Pair"].__new__):
        assert made.__code__.co_filename == "<string>"
        assert follow.source_of(made.__code__) is None
    follow.fresh()
