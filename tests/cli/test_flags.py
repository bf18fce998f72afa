"""Flags: parsing, precedence of the command line over a file, errors that name the nearest flag."""

from __future__ import annotations

from typing import Literal

import pytest

from loopwright.cli.flags import Flag, command_of, parse
from loopwright.cli.values import Range
from loopwright.errors import UsageError

FLAGS = [
    Flag(name="lr", annotation=float, default=0.1, help="Step size.", limits=Range(above=0)),
    Flag(name="batch_size", annotation=int, default=32),
    Flag(name="data", annotation=str),
    Flag(name="mode", annotation=Literal["fast", "slow"], default="fast"),
    Flag(name="augment", annotation=bool, default=True),
    Flag(name="compile", annotation=bool, default=False),
    Flag(name="log", annotation=list[str], default=[]),
]


def read(*words, **file):
    """Parse words, with a file of settings beside them."""
    app = command_of(FLAGS, name="try", usage="", about="A try.")
    return parse(app, words, file=file, file_name="s.toml", hint="see --help")


def test_given_only():
    """Only what was given is returned; dashes, = and repeats are understood."""
    assert read("--data", "x") == {"data": "x"}
    assert read("--data=x", "--batch-size=8", "--log", "a", "--log", "b") == {
        "data": "x",
        "batch_size": 8,
        "log": ["a", "b"],
    }
    assert read("--data", "x", "--compile", "--no-augment") == {
        "data": "x",
        "compile": True,
        "augment": False,
    }
    assert read("--data", "x", "--compile=false")["compile"] is False


def test_negative_number():
    """A negative number is a value, and then out of range by its name."""
    assert read("--data", "x", "--batch-size", "-4")["batch_size"] == -4
    with pytest.raises(UsageError, match="--lr must be above 0, not -1"):
        read("--data", "x", "--lr", "-1")


def test_file():
    """A file's keys are flags, with dashes or underscores."""
    assert read(data="x", batch_size="8", compile="true", augment="false", log=["a", "b"]) == {
        "data": "x",
        "batch_size": 8,
        "compile": True,
        "augment": False,
        "log": ["a", "b"],
    }
    assert read(**{"data": "x", "batch-size": "8"})["batch_size"] == 8


def test_command_line_wins():
    """What the command line gives is not read from the file, a list as a whole."""
    given = read("--lr", "0.5", "--log", "c", "--no-augment", data="x", lr="1", log=["a", "b"])
    assert given == {"data": "x", "lr": 0.5, "log": ["c"], "augment": False}
    assert read("--no-augment", data="x", augment="true")["augment"] is False


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--lrr", "1"], "unknown flag --lrr", "did you mean --lr?"),
        (["--batch", "1"], "unknown flag --batch", "did you mean --batch-size?"),
        (["--batch_siz=1"], "unknown flag --batch_siz", "did you mean --batch-size?"),
        (["--zebra"], "unknown flag --zebra", "see --help"),
        (["extra"], "unexpected argument 'extra'", "see --help"),
        (["--lr", "x"], "--lr takes a number, not 'x'", None),
        (["--lr"], "--lr needs a value", "Step size."),
        (["--lr", "1", "--lr", "2"], "--lr is given twice", None),
        (["--mode", "fats"], "--mode takes fast or slow, not 'fats'", None),
        (["--compile=perhaps"], "--compile takes true or false, not 'perhaps'", None),
    ],
)
def test_refused(words, message, hint):
    """Each mistake on the command line is one sentence, with the nearest flag where there is one."""
    with pytest.raises(UsageError) as caught:
        read("--data", "x", *words)
    assert caught.value.what == message
    assert caught.value.hint == hint
    assert caught.value.where == "command line"


def test_missing():
    """A required flag that is not given is named."""
    with pytest.raises(UsageError, match="--data is missing"):
        read()


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ({"lrr": "1"}, "unknown setting 'lrr'", "did you mean lr?"),
        ({"zebra": "1"}, "unknown setting 'zebra'", "see --help"),
        ({"lr": "x"}, "--lr takes a number, not 'x'", None),
        ({"compile": "1"}, "compile takes true or false, not '1'", None),
        ({"batch_size": ["1", "2"]}, "--batch-size is given twice", None),
    ],
)
def test_refused_in_file(file, message, hint):
    """The same mistakes in a settings file name the file."""
    with pytest.raises(UsageError) as caught:
        read("--data", "x", **file)
    assert caught.value.what == message
    assert caught.value.hint == hint
    assert caught.value.where == "s.toml"


def test_help(capsys):
    """--help prints every flag with its help, type and default, and nothing is returned."""
    assert read("--help") is None
    page = capsys.readouterr().out
    for text in ("--lr NUMBER", "Step size.", "0.1", "--batch-size N", "fast|slow", "A try."):
        assert text in page
    assert "--no-augment" in page
    assert "--no-compile" not in page


def test_help_of_many_choices(capsys):
    """Choices that are too long for the flag's column stand in its help."""
    words = Literal["automatic", "classification", "regression"]
    app = command_of([Flag(name="task", annotation=words, default="automatic")], name="try",
                     usage="", about="")  # fmt: skip
    assert parse(app, ["--help"]) is None
    page = " ".join(capsys.readouterr().out.split())
    assert "--task CHOICE" in page
    assert "automatic, classification, regression" in page
