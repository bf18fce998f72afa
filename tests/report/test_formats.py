"""Numbers read the same everywhere."""

from __future__ import annotations

import math

import pytest

from loopwright.report import formats

NB = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "-∞"), (0, "0"),
        (0.123456, "0.1235"), (1234.56, "1,234.6"), (123456.7, "123,457"), (3e-5, "3e-5"),
        (1.25e9, "1.25e9"), (-2.5, "-2.5"), (7, "7"), ("word", "NaN"),
    ],
)  # fmt: skip
def test_number(value, text):
    """Four digits, thousands separated, what is no number by name."""
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, f"4.2{NB}ms"), (5.21, f"5.21{NB}s"), (42.04, f"42.0{NB}s"),
        (59.99, f"1{NB}min 00{NB}s"), (185, f"3{NB}min 05{NB}s"), (3600, f"1{NB}h 0{NB}min"),
        (98765, f"1{NB}d 3{NB}h"), (math.nan, "–"), (-1, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    """The two units that matter."""
    assert formats.duration(seconds) == text


def test_metrics_know_percent_and_direction():
    """Shares print as percent; which way is better follows from the name, or stays open."""
    assert formats.metric("valid_accuracy", 0.98064) == f"98.06{NB}%"
    assert formats.metric("valid_loss", 0.98064) == "0.9806"
    assert formats.metric("top_5", 1.5) == "1.5"
    directions = [formats.direction(name) for name in ("accuracy", "rmse", "r2", "temperature")]
    assert directions == ["max", "min", "max", None]


def test_sizes_and_counts():
    """Bytes and large counts in short."""
    assert formats.size(999) == f"999{NB}B"
    assert formats.size(1_530_000) == f"1.53{NB}MB"
    assert formats.large(26122) == f"26.1{NB}k"
    assert formats.large(3e12) == f"3{NB}T"
    assert formats.large(1e15) == f"1{NB}P"
    assert formats.large(512) == "512"


def test_columns_share_their_decimals():
    """All cells of a column have the same number of decimals."""
    assert formats.column("loss", [1.6281, 0.0205, None, math.nan]) == [
        "1.6281",
        "0.0205",
        "–",
        "NaN",
    ]
    assert formats.column("steps", [10, 200]) == ["10", "200"]


def test_settings_flatten_to_dotted_names():
    """Nested settings become rows; lists, truths and nothing read as words."""
    tree = {"a": {"b": 1, "c": {"d": [1, None, True]}}, "e": {}, "f": math.nan}
    assert formats.flatten(tree) == {"a.b": "1", "a.c.d": "1, –, yes", "e": "–", "f": "NaN"}
