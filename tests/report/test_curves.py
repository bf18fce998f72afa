"""Curves: grouped by quantity, thinned without losing their extremes, packed without losing digits."""

from __future__ import annotations

import math
import random
from itertools import accumulate

from loopwright.events import EpochRow, RunRecord, Series
from loopwright.report.curves import (
    POINTS_PER_CURVE,
    POINTS_PER_PAGE,
    charts,
    epoch_ends,
    ordered,
    payload,
    split_role,
    thin,
)


def test_roles_come_from_prefixes():
    """A name's prefix says which data it was measured on; the plain loss is the training loss."""
    assert split_role("valid_accuracy") == ("valid", "accuracy")
    assert split_role("validation/loss") == ("valid", "loss")
    assert split_role("val_loss") == ("valid", "loss")
    assert split_role("training_f1") == ("train", "f1")
    assert split_role("loss") == ("train", "loss")
    assert split_role("latest") == (None, "latest")


def test_train_and_valid_share_a_chart(samples):
    """Loss and accuracy each show both curves; the learning rate and gradient norm come last."""
    shown = charts(samples.digits())
    assert [chart.title for chart in shown] == ["loss", "accuracy", "lr", "grad_norm"]
    loss = {(line.label, line.views) for line in shown[0].lines}
    assert loss == {("train", "s"), ("train", "e"), ("valid", "se")}
    assert [chart.optimization for chart in shown] == [False, False, True, True]


def test_logged_epoch_values_are_drawn_once():
    """A value that stands in the epochs and in the series at the same turns is one curve."""
    rows = [EpochRow(e, 10 * e + 10, 1.0, {"valid_loss": 0.5}) for e in range(3)]
    series = {"valid_loss": Series("valid_loss", [10, 20, 30], [0.5, 0.5, 0.5])}
    (chart,) = charts(RunRecord(name="r", series=series, epochs=rows))
    assert len(chart.lines) == 1
    assert chart.lines[0].epoch_x == [1, 2, 3]


def test_short_curves_are_kept():
    """A curve within the limit loses nothing; what is no number becomes a gap and a mark."""
    few = thin([1, 2, 3, 4, 5], [1.0, math.nan, math.nan, math.inf, 2.0], 10)
    assert few.y == [1.0, None, None, None, 2.0]
    assert few.bad == [(2, 4, "NaN")]
    assert few.bad_count == 3
    assert few.mean_x == []


def test_long_curves_keep_their_extremes():
    """Thinning keeps ends, minimum, maximum, every bucket's mean, within the limit."""
    noise = random.Random(0)
    y = [noise.gauss(0, 1) for _ in range(100_000)]
    y[31_234], y[77_777] = 50.0, -60.0
    few = thin(range(100_000), y)
    assert len(few.x) + len(few.mean_x) <= POINTS_PER_CURVE
    assert max(few.y) == 50.0
    assert min(few.y) == -60.0
    assert (few.x[0], few.x[-1]) == (0, 99_999)
    assert list(few.x) == sorted(few.x)
    assert math.isclose(sum(few.mean_y) / len(few.mean_y), sum(y) / len(y), abs_tol=1e-3)


def test_long_curves_keep_their_holes():
    """One NaN among 100,000 points still leaves its gap and its mark at its turn."""
    y = [1.0] * 100_000
    y[54_321] = math.nan
    few = thin(range(100_000), y)
    assert few.y[few.x.index(54_321)] is None
    assert few.bad == [(54_321, 54_321, "NaN")]
    alternating = thin(range(100_000), [math.nan if i % 2 else 1.0 for i in range(100_000)])
    assert len(alternating.bad) <= 100
    assert alternating.bad[-1][1] == 99_999
    assert alternating.bad_count == 50_000


def test_turns_are_put_in_order():
    """Points out of order are sorted, points without a value are left out."""
    assert ordered([3, 1, 2], [30, 10, None]) == ([1.0, 3.0], [10.0, 30.0])


def test_payload_decodes_to_the_curve(samples):
    """Turns are differences, values have five digits, epochs are those of the table."""
    record = samples.digits()
    data = payload(charts(record), [epoch_ends(record.epochs)])
    line = data["charts"][0]["l"][0]
    assert list(accumulate(line["x"])) == record.series["loss"].x
    assert all(
        math.isclose(a, b, rel_tol=1e-4)
        for a, b in zip(line["y"], record.series["loss"].y, strict=True)
    )
    assert list(accumulate(data["runs"][0])) == [45 * (e + 1) for e in range(12)]
    assert data["charts"][1]["p"] == 1
    assert data["charts"][2]["k"] == 1


def test_many_curves_share_the_page(samples):
    """Two hundred curves stay within the page's points, and short ones leave room for long ones."""
    data = payload(charts(samples.huge(points=20_000)), [])
    lengths = [len(line["y"]) for chart in data["charts"] for line in chart["l"]]
    assert sum(lengths) <= POINTS_PER_PAGE
    assert max(lengths) >= 1_990


def test_whose_learning_rate():
    """A curve of one group's rate says so where the groups have rates of their own."""
    record = RunRecord(name="x", series={"lr": Series("lr", [1, 2], [0.1, 0.1])})
    assert [chart.label for chart in charts(record)] == ["learning rate"]
    record.lr_of = "head"
    assert [chart.label for chart in charts(record)] == ["learning rate of head"]
