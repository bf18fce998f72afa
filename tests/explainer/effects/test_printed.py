"""What a line prints stands at it; the program's output is the same."""

from __future__ import annotations

import builtins
import io
import sys

from explainer.recorded import recorded_here, said

WORDS = "a word " * 40


class Counting:
    """Counts how often it is made to text."""

    made = 0

    def __str__(self):
        Counting.made += 1
        return f"made {Counting.made}"


def told(train):
    """What is said of printing, by line."""
    return [one for one in said(recorded_here(train, steps=1, timed=0)) if "It prints" in one]


def test_what_is_printed_is_told(capsys):
    """With separators and ends, several lines as the first of them, long ones cut; to the same stream."""

    def train():
        print("loss", 0.5, sep="=", end="!\n")
        print("first\nsecond")
        print(WORDS, file=sys.stderr)
        print()
        print("to a file", file=io.StringIO())
        print(Counting())

    found = told(train)
    assert [one.partition(" | ")[2] for one in found] == [
        "It prints: `loss=0.5!`",
        "It prints: `first` and more lines",
        f"It prints: `{WORDS[:120]}…`",
        "It prints: `made 1`",
    ]
    out, err = capsys.readouterr()
    assert out == "loss=0.5!\nfirst\nsecond\n\nmade 1\n"
    assert err == f"{WORDS}\n"
    assert builtins.print.__module__ == "builtins"


def test_what_prints_while_it_is_printed(capsys):
    """The stream gets everything in the order in which it is written without anybody listening."""

    class Loud:
        def __str__(self):
            print("meanwhile")
            return "loud"

    def train():
        print("first", Loud())

    train()
    alone = capsys.readouterr().out
    told(train)
    assert capsys.readouterr().out == alone == "first meanwhile\nloud\n"


def test_an_error_is_the_programs_own(capsys):
    """What cannot be printed raises, after what came before it, as without anybody listening."""

    class Broken:
        def __str__(self):
            raise ZeroDivisionError("no text")

    def train():
        try:
            print("before", Broken())
        except ZeroDivisionError as error:
            seen.append(str(error))
        try:
            print("a", wrong=1)
        except TypeError:
            seen.append("TypeError")

    seen = []
    assert told(train) == []
    assert seen == ["no text", "TypeError"]
    assert capsys.readouterr().out == "before "
