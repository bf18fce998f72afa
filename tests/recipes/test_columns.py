"""CSV and Parquet files as columns."""

from __future__ import annotations

import datetime as dt
import sys

import pytest

from loopwright.errors import DataError, UsageError
from loopwright.recipes.columns import read_columns


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a text or bytes under a name."""

    def write(content, name="some.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_numbers_words_and_gaps_are_read(write, name, mark):
    """A column is of numbers if all that is known in it is; gaps are None; quotes are undone."""
    text = '\ufeffsize,"name",note\n1.5, ann,NA\n\n?,"b,c",x\n-2e3,,\n'.replace(",", mark)
    columns = read_columns(write(text, name))
    assert columns.values == {
        "size": [1.5, None, -2000.0],
        "name": ["ann", f"b{mark}c", None],
        "note": [None, "x", None],
    }
    assert len(columns) == 3
    assert columns.row_name(1).endswith(f"{name}:4")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("a,b\n", "no row"),
        ("a,b\n1,2\n3\n", r"some\.csv:3 .*has 1 fields, the header 2"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,\n1,2\n", "column 2 has no name"),
        (b"a,b\n\xff,2\n", "not UTF-8"),
        ('a,b\n1,2\n"3,4\n', "not CSV after line 2"),
        ("a\n" + "1\n" * 20 + "twelve\n", r"some\.csv:22 .*'twelve' is not a number, and 20 of 21"),
        ("a\n1\ninf\n", r"some\.csv:3 .*inf is not a finite number"),
    ],
)
def test_broken_files_are_refused_with_their_line(write, content, says):
    """Empty, ragged, binary and unclosed files, and a word among numbers, are errors."""
    with pytest.raises(DataError, match=f"(?s){says}"):
        read_columns(write(content))


def test_missing_and_other_files_are_refused(tmp_path, write):
    """A path that is not there, a folder, and an unknown suffix are errors."""
    with pytest.raises(UsageError, match="there is no file"):
        read_columns(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is not a file"):
        read_columns(tmp_path)
    with pytest.raises(UsageError, match="neither CSV nor Parquet"):
        read_columns(write("x", "some.xlsx"))


def test_parquet_is_read_like_csv(tmp_path):
    """Numbers, text, truth values, dates and gaps of a Parquet file come as in a CSV."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "some.parquet"
    table = {"n": [1, None], "x": [0.5, float("nan")], "w": ["a", None], "b": [True, False]}
    day = dt.date(2024, 2, 29)
    parquet.write_table(pa.table({**table, "day": [day, None]}), path)
    columns = read_columns(path)
    assert columns.values == {
        "n": [1.0, None],
        "x": [0.5, None],
        "w": ["a", None],
        "b": ["True", "False"],
        "day": ["2024-02-29", None],
    }
    assert columns.row_name(1).endswith("some.parquet, row 2")
    parquet.write_table(pa.table({"l": [[1], [2]]}), path)
    with pytest.raises(DataError, match="'l' holds a list"):
        read_columns(path)
    parquet.write_table(pa.table({"l": [1.0, float("inf")]}), path)
    with pytest.raises(DataError, match="inf is not a finite number"):
        read_columns(path)


def test_broken_parquet_is_refused(write, monkeypatch):
    """A file that is not Parquet is an error, and so is a missing pyarrow, with what to install."""
    pytest.importorskip("pyarrow")
    path = write("no parquet", "some.parquet")
    with pytest.raises(DataError, match="not Parquet"):
        read_columns(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'loopwright\[recipes\]'"):
        read_columns(path)
