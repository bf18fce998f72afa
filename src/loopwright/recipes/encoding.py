"""Turning the columns of a table into a tensor, the same way for training and for prediction."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from loopwright.errors import LoopwrightWarning, UsageError
from loopwright.recipes.columns import Columns, Value
from loopwright.recipes.nearest import did_you_mean


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which columns there are, and which words the training rows have in them.

    A row becomes one float per column, numeric ones first: the number, nan where it is missing;
    then the index of the word in ``words``, 1-based, 0 where it is missing or was never seen.
    """

    numeric: list[str]
    words: dict[str, list[str]]

    @classmethod
    def fit(cls, columns: Columns, names: Iterable[str], rows: list[int]) -> Encoding:
        """Return the encoding of the named columns as the training rows show them.

        A column of words that are nearly all different (names, numbers of customers) is left out
        with a warning, and so is one that has the same value in every training row.

        Args:
            columns: the whole table; whether a column is of numbers or words is read from all of it.
            names: those to use.
            rows: the training rows; nothing else of the other rows is looked at.
        """
        numeric: list[str] = []
        words: dict[str, list[str]] = {}
        for name in names:
            seen = [columns.values[name][row] for row in rows]
            distinct = set(seen)
            if len(distinct) < 2:
                _leave_out(name, f"it is {seen[0]!r} in every training row")
            elif not any(isinstance(value, str) for value in columns.values[name]):
                numeric.append(name)
            elif len(distinct) > max(50, len(rows) / 2):
                _leave_out(name, f"{len(rows)} training rows have {len(distinct)} different values")
            else:
                words[name] = sorted(str(value) for value in distinct if value is not None)
        if not numeric and not words:
            raise UsageError("no column is left to predict from", slug="no-columns")
        return cls(numeric, words)

    @property
    def names(self) -> list[str]:
        """The columns in the order of the encoded row."""
        return [*self.numeric, *self.words]

    def encode(self, columns: Columns) -> Tensor:
        """Return float32 of shape (rows, columns).

        Raises:
            UsageError: a column is missing, or one of numbers has a word in it.
        """
        encoded = []
        for name in self.names:
            if name not in columns.values:
                hint = did_you_mean(name, columns.values)
                raise UsageError(f"there is no column {name!r}", slug="no-column", hint=hint)
            values = columns.values[name]
            if name in self.words:
                index = {word: number for number, word in enumerate(self.words[name], start=1)}
                encoded.append([float(index.get(spell(value), 0)) for value in values])
            else:
                encoded.append([self._number(name, row, columns) for row in range(len(values))])
        return torch.tensor(encoded, dtype=torch.float32).T.contiguous()

    @staticmethod
    def _number(name: str, row: int, columns: Columns) -> float:
        value = columns.values[name][row]
        if isinstance(value, str):
            raise UsageError(
                f"column {name!r} was of numbers in training; this is {value!r}",
                slug="not-a-number",
                where=columns.row_name(row),
            )
        return math.nan if value is None else value

    def to_tensor(self) -> Tensor:
        """Return the encoding as bytes, uint8, so that it can be a buffer of a model."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, packed: Tensor) -> Encoding:
        """Return what ``to_tensor`` packed."""
        return cls(**json.loads(bytes(packed.tolist())))


def spell(value: Value) -> str:
    """Return a value as a word: 3.0 as "3"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _leave_out(name: str, why: str) -> None:
    warnings.warn(LoopwrightWarning(f"column {name!r} is left out: {why}"), stacklevel=3)
