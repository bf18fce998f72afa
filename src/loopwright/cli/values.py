"""Text into values: what a flag or a settings file may say for each annotation of a parameter.

Nothing is rounded and nothing is guessed: ``--epochs 2.5`` is an error, and so is ``--lr nan``.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that make sense; None is no limit. ``above`` and ``below`` exclude the limit itself."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, value: float) -> str | None:
        """Say what is wrong with ``value``, or None."""
        if self.least is not None and value < self.least:
            return f"must be at least {self.least}, not {value}"
        if self.most is not None and value > self.most:
            return f"must be at most {self.most}, not {value}"
        if self.above is not None and value <= self.above:
            return f"must be above {self.above}, not {value}"
        if self.below is not None and value >= self.below:
            return f"must be below {self.below}, not {value}"
        return None


def value_of(annotation: Any, words: Sequence[str]) -> Any:
    """The value that ``words`` say, of the annotated type.

    Args:
        annotation: ``bool``, ``int``, ``float``, ``str``, ``Path``, a ``Literal``, a union of these (with
            None, said as ``none``), or a ``list`` or ``tuple`` of them.
        words: one word, or one for each item of a list or tuple.

    Raises:
        ValueError: its message goes on after the flag's name: ``takes a whole number, not '2.5'``.

    >>> value_of(int, ["1e3"]), value_of(float | None, ["none"]), value_of(list[int], ["1", "2"])
    (1000, None, [1, 2])
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _one_of(parts, words)
    if origin is list:
        return [value_of(parts[0], [word]) for word in words]
    if origin is tuple and Ellipsis in parts:
        return tuple(value_of(parts[0], [word]) for word in words)
    if origin is tuple:
        if len(words) != len(parts):
            raise ValueError(f"takes {len(parts)} values, not {len(words)}")
        return tuple(value_of(part, [word]) for part, word in zip(parts, words, strict=True))
    (word,) = words
    if origin is Literal:
        for choice in parts:
            if word.lower() == str(choice).lower():
                return choice
        raise ValueError(f"takes {either(map(str, parts))}, not {word!r}")
    if annotation is bool:
        return _boolean(word)
    if annotation is int:
        return _whole_number(word)
    if annotation is float:
        return _number(word)
    if annotation is Path:
        if not word:
            raise ValueError("takes a path, not an empty text")
        return Path(word).expanduser()
    return word


def _one_of(parts: tuple[Any, ...], words: Sequence[str]) -> Any:
    if type(None) in parts and len(words) == 1 and words[0].lower() in ("none", "null"):
        return None
    problems = []
    for part in parts:
        if part is type(None):
            continue
        try:
            return value_of(part, words)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[-1])


def _whole_number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        pass
    try:
        number = float(word)  # 1e3 is a whole number, 2.5 is not
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"takes a whole number, not {word!r}")
    return int(number)


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"takes a number, not {word!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"takes a finite number, not {word!r}")
    return number


def _boolean(word: str) -> bool:
    if word.lower() in ("true", "yes", "on", "1"):
        return True
    if word.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"takes true or false, not {word!r}")


def either(words: Any) -> str:
    """``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
