"""Reading a CSV or a Parquet file into columns of numbers, words and gaps.

A column is a list with one entry per row: a float, a str, or None where nothing is known.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loopwright.errors import DataError, UsageError

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file by name; ``row_name(index)`` says where a row stands."""

    values: dict[str, list[Value]]
    row_name: Callable[[int], str]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


def read_columns(path: Path) -> Columns:
    """Return the columns of a ``.csv``, ``.tsv`` or ``.parquet`` file with at least one row.

    A CSV column counts as numbers where every value that is not missing is one.

    Raises:
        UsageError: there is no such file, or it is of another kind.
        DataError: it is empty, ragged, not UTF-8, has two columns of one name, or a column that
            is nearly all numbers has a word in it.
    """
    if not path.is_file():
        what = f"{path} is not a file" if path.exists() else f"there is no file {path}"
        raise UsageError(what, slug="no-data", hint="name a .csv, .tsv or .parquet file")
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".txt": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path} is neither CSV nor Parquet by its name", slug="no-data")
    columns = readers[path.suffix.lower()](path)
    if not columns.values or not len(columns):
        raise DataError("the table has no row", slug="empty-table", where=str(path))
    return columns


def _read_csv(path: Path) -> Columns:
    lines: list[int] = []
    rows: list[list[str]] = []
    header: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(first), strict=True)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:
                    lines.append(reader.line_num)
                    rows.append(row)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error}", slug="not-text", where=str(path)) from None
    except csv.Error as error:
        after = lines[-1] if lines else 1
        what = f"not CSV after line {after}: {error}"
        raise DataError(what, slug="broken-csv", where=str(path)) from None
    _check_header(header, path)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"the row has {len(row)} fields, the header {len(header)}",
                slug="ragged-csv",
                where=f"{path}:{line}",
            )
    words = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    where = [f"{path}:{line}" for line in lines]
    values = {name: parse_column(name, column, where) for name, column in words.items()}
    return Columns(values, where.__getitem__)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _check_header(header: list[str], path: Path) -> None:
    where = f"{path}:1"
    if not header:
        raise DataError("the file is empty", slug="empty-table", where=str(path))
    for name in header:
        if not name:
            number = header.index("") + 1
            raise DataError(f"column {number} has no name", slug="broken-csv", where=where)
        if header.count(name) > 1:
            raise DataError(f"two columns are called {name!r}", slug="broken-csv", where=where)


def parse_column(name: str, words: tuple[str, ...], where: list[str]) -> list[Value]:
    """Return the words of a CSV column as numbers, if (nearly) all of them are; else as they are.

    Raises:
        DataError: over 90 % are numbers and one is not, or one is not finite.
    """
    stripped = [word.strip() for word in words]
    known = [index for index, word in enumerate(stripped) if word.lower() not in MISSING]
    values: list[Value] = [None] * len(words)
    failed: list[int] = []
    for index in known:
        try:
            values[index] = number = float(stripped[index])
        except ValueError:
            failed.append(index)
            continue
        if not math.isfinite(number):
            raise DataError(
                f"column {name!r}: {stripped[index]} is not a finite number",
                slug="not-a-number",
                where=where[index],
            )
    if not failed:
        return values
    if len(failed) < 0.1 * len(known):
        raise DataError(
            f"column {name!r}: {stripped[failed[0]]!r} is not a number, and "
            f"{len(known) - len(failed)} of {len(known)} values are",
            slug="not-a-number",
            where=where[failed[0]],
            hint="correct it, or leave the field empty",
        )
    for index in known:
        values[index] = stripped[index]
    return values


def _read_parquet(path: Path) -> Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "Parquet is read by pyarrow, which is not installed",
            slug="missing-extra",
            hint="pip install 'loopwright[recipes]', or give a CSV file",
        ) from None
    try:
        table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"not Parquet: {first}", slug="broken-parquet", where=str(path)) from None
    where = [f"{path}, row {row + 1}" for row in range(table.num_rows)]
    values = {
        name: [_plain(value, name, at) for value, at in zip(column.to_pylist(), where, strict=True)]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return Columns(values, where.__getitem__)


def _plain(value: object, name: str, where: str) -> Value:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or hasattr(value, "isoformat"):
        return str(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise DataError(
            f"column {name!r} holds a {kind}, neither number nor text",
            slug="not-a-number",
            where=where,
        ) from None
    if math.isinf(number):
        what = f"column {name!r}: {value} is not a finite number"
        raise DataError(what, slug="not-a-number", where=where)
    return None if math.isnan(number) else number
