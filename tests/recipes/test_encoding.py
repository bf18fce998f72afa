"""Columns as a tensor."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import LoopwrightWarning, UsageError
from loopwright.recipes.columns import Columns
from loopwright.recipes.encoding import Encoding, spell


def table(**values):
    """Return columns whose rows are named by their number."""
    return Columns(values, lambda row: f"row {row}")


COLUMNS = table(x=[1.0, None, 3.0, 4.0], w=["a", "b", None, "unseen"])
ENCODING = Encoding.fit(COLUMNS, ["w", "x"], rows=[0, 1, 2])


def test_words_are_those_of_the_training_rows():
    """A word of another row is unknown; numbers come first."""
    assert ENCODING.numeric == ["x"]
    assert ENCODING.words == {"w": ["a", "b"]}


def test_rows_become_numbers():
    """A gap is nan among numbers; a missing or an unseen word is 0."""
    encoded = ENCODING.encode(COLUMNS)
    assert encoded.dtype == torch.float32
    assert encoded[:, 1].tolist() == [1.0, 2.0, 0.0, 0.0]
    assert encoded[[0, 2, 3], 0].tolist() == [1.0, 3.0, 4.0]
    assert encoded[1, 0].isnan()


def test_the_order_of_the_columns_does_not_matter():
    """Another file may have its columns in another order, and more of them."""
    other = table(extra=["?"], w=["b"], x=[7.0])
    assert ENCODING.encode(other).tolist() == [[7.0, 2.0]]


def test_an_encoding_survives_as_a_tensor():
    """As a buffer of a model the encoding is saved and comes back equal."""
    assert Encoding.from_tensor(ENCODING.to_tensor()) == ENCODING


def test_numbers_that_were_words_in_training_stay_words():
    """A column of words whose other file holds only numbers is looked up as words."""
    encoding = Encoding([], {"code": ["7", "a"]})
    assert encoding.encode(table(code=[7.0, "a", None])).flatten().tolist() == [1.0, 2.0, 0.0]
    assert [spell(value) for value in (7.0, 7.5, None, "a")] == ["7", "7.5", "", "a"]


def test_missing_columns_name_the_nearest():
    """A column that the file does not have is an error with the nearest name."""
    with pytest.raises(UsageError, match="no column 'x'"):
        ENCODING.encode(table(w=["a"]))


def test_words_among_numbers_are_refused():
    """A word where training had numbers is an error with its row."""
    with pytest.raises(UsageError, match=r"row 1 .*'much'"):
        ENCODING.encode(table(w=["a", "a"], x=[1.0, "much"]))


def test_useless_columns_are_left_out_with_a_warning():
    """A constant column, and words that are all different, are left out, and that is said."""
    names = [str(n) for n in range(60)]
    columns = table(same=["a"] * 60, name=names, x=[float(n) for n in range(60)])
    with pytest.warns(LoopwrightWarning) as caught:
        assert Encoding.fit(columns, columns.values, rows=list(range(60))).names == ["x"]
    assert ["'same'" in str(caught[0].message), "'name'" in str(caught[1].message)] == [True] * 2
    with pytest.warns(LoopwrightWarning), pytest.raises(UsageError, match="no column is left"):
        Encoding.fit(columns, ["same"], rows=[0, 1])
