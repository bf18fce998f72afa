"""Following statements: each once, in its turn, with the loops that Python really runs."""

from __future__ import annotations

import sys
import threading

import pytest

from loopwright.explainer.follow.lines import Lines
from loopwright.explainer.times.owntime import OwnTime


class Heard:
    """Writes down what the line level tells."""

    def __init__(self):
        self.told = []
        self.time = OwnTime(lambda: 0)

    def entered(self, activation):
        self.told.append(f"> {activation.code.code.co_name}")

    def left(self, activation):
        self.told.append(f"< {activation.code.code.co_name}")

    def statement(self, activation, statement):
        self.told.append(f"{statement.line} in {len(activation.loops)}")

    def turn_begins(self, activation, loop):
        if not (activation.loops and activation.loops[-1].loop is loop):
            activation.loops.append(type("Turn", (), {"loop": loop})())
        self.told.append(f"turn of {loop.line}")

    def loop_left(self, activation, depth):
        del activation.loops[depth:]
        self.told.append(f"left to {depth}")


@pytest.fixture
def follow(tmp_path):
    """``follow(text)`` runs a program followed; what was told of it."""

    def run(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        heard, failed = Heard(), []
        lines = Lines(heard, failed.append, threading.RLock())
        code = compile(text, str(path), "exec")
        before = sys.gettrace()
        sys.settrace(None)
        try:
            assert lines.begin(None)
            exec(code, {"__name__": "__main__"})
        finally:
            lines.end()
            sys.settrace(before)
        assert failed == []
        return heard.told

    return run


def turns(told, line):
    """How many turns a loop had."""
    return told.count(f"turn of {line}")


def test_a_for_loop(follow):
    """Each turn begins at the head; the head's last visit, which finds nothing more, is one too."""
    told = follow("a = 0\nfor i in range(3):\n    a += i\nb = a\n")
    assert turns(told, 2) == 4
    assert told.count("3 in 1") == 3
    assert told[-2:] == ["4 in 0", "< <module>"]


def test_while_true_has_no_head(follow):
    """Turns of ``while True`` begin with the first statement of the body."""
    told = follow("n = 0\nwhile True:\n    n += 1\n    if n == 3:\n        break\n")
    assert turns(told, 2) == 3


def test_a_with_ends_at_its_own_line(follow):
    """The end of a ``with`` comes back to its line, which is no new turn, whatever loop it stands in."""
    body = "    with open(__import__('os').devnull):\n        n += 1\n    n += 0\n"
    assert turns(follow(f"n = 0\nwhile n < 3:\n{body}"), 2) == 4
    assert turns(follow(f"n = 0\nwhile True:\n{body}    if n == 3:\n        break\n"), 2) == 3
    assert turns(follow(f"n = 0\nfor i in range(3):\n{body}"), 2) == 4


def test_nested_loops_and_continue(follow):
    """An inner loop begins anew in each turn of the outer one; ``continue`` begins the next turn."""
    told = follow(
        "for a in range(2):\n    for b in range(3):\n        if b:\n            continue\n        c = b\n"
    )
    assert (turns(told, 1), turns(told, 2)) == (3, 8)
    assert told.count("left to 1") == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Each time that a `for` asks for more is a turn, the last one, which finds nothing, too.
        ("for i in range(3): s += i", 4),
        ("for i in [k * 2 for k in range(3)]: s += i", 4),
        ("for i in range(3): s += len([k for k in [i]])", 4),
        ("for i in range(3): s += sum(\n    [k for k in [i]]\n)", 4),
        ("for i in (k for k in range(3)): f(); s += i", 4),
        ("while s < 3: s += 1", 3),
        ("while s < 3: s += len([k for k in [s]])", 3),
        ("while True:\n    for i in range(2): s += 1\n    break", 1),
    ],
)
def test_loops_in_one_line(text, expected, follow):
    """Their turns begin where Python jumps back to them, as no other line tells of it."""
    told = follow(f"f = lambda: None\ns = 0\n{text}\n")
    assert turns(told, 3) == expected
    if expected == 4:
        assert told.count("3 in 1") == 4


@pytest.mark.parametrize("head", ["for i in range(3):", "while n < 3:"])
@pytest.mark.parametrize(
    "inside", ["[k for k in [n]]", "{k: k for k in [n]}", "sum(k for k in [n])", "f(lambda: n)"]
)
def test_a_comprehension_begins_no_turn(head, inside, follow):
    """Nor does a lambda: their frames run lines that lie in a loop, and are no turns of it."""
    text = f"f = lambda g: g()\nn = 0\n{head}\n    a = {inside}\n    n += 1\n"
    assert turns(follow(text), 3) == 4


def test_functions_and_generators(follow):
    """Calls are told when they begin and end, a generator each time that it goes on."""
    told = follow("def f():\n    yield 1\n    yield 2\nfor x in f():\n    y = x\n")
    assert told.count("> f") == told.count("< f") == 3
    assert turns(told, 4) == 3


def test_ended_generators_are_forgotten(tmp_path):
    """The frame of a generator that ended is not kept, so what it held is freed."""
    text = "def f(n):\n    yield n\nfor k in range(5):\n    list(f(k))\n"
    path = tmp_path / "program.py"
    path.write_text(text)
    lines = Lines(Heard(), pytest.fail, threading.RLock())
    before = sys.gettrace()
    sys.settrace(None)
    try:
        lines.begin(None)
        exec(compile(text, str(path), "exec"), {})
        assert len(lines.generators) <= 1
    finally:
        lines.end()
        sys.settrace(before)


def test_another_thread_is_not_followed(follow):
    """Statements of other threads are not told."""
    told = follow(
        "import threading\ndef work():\n    a = 1\nt = threading.Thread(target=work)\nt.start()\nt.join()\n"
    )
    assert "> work" not in told
    assert threading.active_count() >= 1


def test_a_traced_program_is_left_alone():
    """Where something traces already, nothing is followed and nothing is replaced."""
    before = sys.gettrace()

    def other(frame, event, argument):
        return None

    sys.settrace(other)
    try:
        lines = Lines(Heard(), pytest.fail, threading.RLock())
        assert not lines.begin(None)
        assert sys.gettrace() is other
    finally:
        sys.settrace(before)
