"""Text into values: nothing is rounded, nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from loopwright.cli.values import Range, value_of


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["12"], 12),
        (int, ["-3"], -3),
        (int, ["1e3"], 1000),
        (int, ["5.0"], 5),
        (float, ["1e-3"], 0.001),
        (float | None, ["none"], None),
        (int | None, ["7"], 7),
        (bool, ["yes"], True),
        (bool, ["false"], False),
        (str, ["0.5"], "0.5"),
        (str, [""], ""),
        (Path, ["a/b"], Path("a/b")),
        (Literal["adam", "sgd"], ["ADAM"], "adam"),
        (Literal[1, 2], ["2"], 2),
        (list[int], ["1", "2"], [1, 2]),
        (tuple[float, ...], ["1"], (1.0,)),
        (tuple[int, str], ["1", "a"], (1, "a")),
        (int | str, ["1"], 1),
        (int | str, ["x"], "x"),
    ],
)
def test_value(annotation, words, value):
    """A word becomes a value of the annotated type."""
    seen = value_of(annotation, words)
    assert seen == value
    assert type(seen) is type(value)


@pytest.mark.parametrize(
    ("annotation", "words", "message"),
    [
        (int, ["2.5"], "takes a whole number, not '2.5'"),
        (int, ["nan"], "takes a whole number, not 'nan'"),
        (int, ["1e400"], "takes a whole number, not '1e400'"),
        (int, [""], "takes a whole number, not ''"),
        (float, ["fast"], "takes a number, not 'fast'"),
        (float, ["nan"], "takes a finite number, not 'nan'"),
        (float, ["-inf"], "takes a finite number, not '-inf'"),
        (float | None, ["nix"], "takes a number, not 'nix'"),
        (bool, ["maybe"], "takes true or false, not 'maybe'"),
        (Literal["a", "b", "c"], ["d"], "takes a, b or c, not 'd'"),
        (Path, [""], "takes a path, not an empty text"),
        (tuple[int, int], ["1"], "takes 2 values, not 1"),
        (list[int], ["1", "x"], "takes a whole number, not 'x'"),
    ],
)
def test_refused(annotation, words, message):
    """A word that is no such value is refused, with what is taken instead."""
    with pytest.raises(ValueError) as caught:
        value_of(annotation, words)
    assert str(caught.value) == message


def test_range():
    """Limits are inclusive, ``above`` and ``below`` exclusive."""
    assert Range(least=1, most=3).problem(1) is None
    assert Range(least=1, most=3).problem(3) is None
    assert Range(least=1).problem(0) == "must be at least 1, not 0"
    assert Range(most=3).problem(4) == "must be at most 3, not 4"
    assert Range(above=0).problem(0) == "must be above 0, not 0"
    assert Range(below=1).problem(1) == "must be below 1, not 1"
