"""The record's numbers as charts: which curves belong together, and few enough points to draw.

A metric's train, valid and test curves share one chart. A line knows its place on both horizontal
axes: the run's turns, and its epochs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from loopwright.events import EpochRow, RunRecord
from loopwright.report.formats import is_share, to_float

POINTS_PER_CURVE = 4_000
POINTS_PER_PAGE = 60_000
ROLES = {"train": 0, "valid": 1, "test": 2}

TITLES = {"loss": "loss", "lr": "learning rate", "grad_norm": "gradient norm"}
ACRONYMS = {"r2": "R²", "f1": "F1"} | {w: w.upper() for w in ("mae", "mse", "rmse", "auc", "auroc")}

_ROLE = re.compile(r"(train|training|valid|validation|val|test)[_/.\- ](.+)", re.DOTALL)
_SAME = {"training": "train", "validation": "valid", "val": "valid"}
_OPTIMIZATION = re.compile(r"(lr|learning_rate|grad_norm|loss_scale|scale|momentum)($|[_/.\d])")
_MARKED_RANGES = 100
_DRAWABLE = 1e150  # beyond it the axis itself would overflow; float32 ends at 3.4e38


@dataclass(slots=True)
class Line:
    """One curve with all its points; ``views`` says on which axes it stands: s(teps), e(pochs)."""

    label: str
    color: int
    x: list[float]
    y: list[float]
    views: str = "s"
    epoch_x: list[float] | None = None
    run: int = 0


@dataclass(slots=True)
class Chart:
    """The curves of one quantity."""

    title: str
    lines: list[Line] = field(default_factory=list)
    optimization: bool = False
    of: str = ""
    """What of the run it is, where others of the kind have curves that are not recorded."""

    @property
    def label(self) -> str:
        """The title in words."""
        words = TITLES.get(self.title) or label(self.title)
        return f"{words} of {self.of}" if self.of else words


@dataclass(slots=True)
class Thinned:
    """Few points that look like many: the extremes of each bucket, its mean, and what was no number."""

    x: list[float]
    y: list[float | None]
    mean_x: list[float]
    mean_y: list[float | None]
    bad: list[tuple[float, float, str]]
    bad_count: int


def split_role(name: str) -> tuple[str | None, str]:
    """``valid_accuracy`` as ``("valid", "accuracy")``; the plain ``loss`` is the training loss."""
    found = _ROLE.fullmatch(name)
    if found:
        return _SAME.get(found[1], found[1]), found[2]
    return ("train", name) if name == "loss" else (None, name)


def label(name: str) -> str:
    """``valid_accuracy`` as ``validation accuracy``."""
    role, stem = split_role(name)
    words = {"valid": "validation ", "train": "training ", "test": "test "}
    return words.get(role or "", "") + " ".join(ACRONYMS.get(w, w) for w in stem.split("_"))


def ordered(x: Sequence[Any], y: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Both columns as floats, sorted by turn; points without a value are left out."""
    pairs = [(to_float(a), to_float(b)) for a, b in zip(x, y, strict=False) if b is not None]
    pairs = [pair for pair in pairs if math.isfinite(pair[0])]
    if any(a[0] > b[0] for a, b in pairwise(pairs)):
        pairs.sort(key=lambda pair: pair[0])
    return [a for a, _ in pairs], [b for _, b in pairs]


def charts(record: RunRecord) -> list[Chart]:
    """Every curve of a run, grouped by quantity: the loss first, then what was kept as best."""
    found: dict[str, Chart] = {}

    def add(
        name: str, x: list[float], y: list[float], views: str, epoch_x: list[float] | None = None
    ) -> None:
        role, stem = split_role(name)
        of = record.lr_of if stem == "lr" else ""
        chart = found.setdefault(stem, Chart(stem, [], bool(_OPTIMIZATION.match(stem)), of))
        taken = {line.label for line in chart.lines if set(line.views) & set(views)}
        words = role if role and role not in taken else (chart.label if name == stem else name)
        color = ROLES.get(role or "", 0 if chart.optimization else 3) + len(taken) * (role is None)
        chart.lines.append(Line(words, color % 10, x, y, views, epoch_x))

    by_epoch = epoch_curves(record.epochs)
    for name, series in record.series.items():
        x, y = ordered(series.x, series.y)
        if x and not (name in by_epoch and len(x) <= len(by_epoch[name][0])):
            add(name, x, y, "s")
    for name, (turns, epochs, values) in by_epoch.items():
        role, stem = split_role(name)
        dense = found.get(stem, Chart(stem)).lines
        per_step = any(split_role(line.label)[0] == role or line.label == role for line in dense)
        add(name, turns, values, "e" if per_step else "se", epochs)

    best = [split_role(name)[1] for name in record.best]
    order = {stem: i for i, stem in enumerate(["loss", *best])}
    ranked = sorted(found.values(), key=lambda c: (c.optimization, order.get(c.title, _rank(c))))
    for chart in ranked:
        chart.lines.sort(key=lambda line: line.color)
    return ranked


def _rank(chart: Chart) -> int:
    return 1_000 if any(line.color == ROLES["valid"] for line in chart.lines) else 2_000


def epoch_curves(
    rows: Sequence[EpochRow],
) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Name -> (turns, epochs from 1, values) of everything that epoch rows hold."""
    curves: dict[str, tuple[list[float], list[float], list[float]]] = {}
    for position, row in enumerate(rows, start=1):
        for name, value in row.values.items():
            if value is not None:
                turns, epochs, values = curves.setdefault(name, ([], [], []))
                turns.append(_turn(row))
                epochs.append(position)
                values.append(to_float(value))
    return curves


def drawable(value: float) -> bool:
    """Whether a value has a place on an axis: finite and not absurdly large (NaN has none)."""
    return abs(value) < _DRAWABLE


def thin(x: Sequence[float], y: Sequence[float], limit: int = POINTS_PER_CURVE) -> Thinned:
    """At most ``limit`` numbers that keep each bucket's minimum, maximum and mean.

    The means exist because smoothing a curve of extremes would smooth its mid-range instead.
    """
    bad = [i for i, value in enumerate(y) if not drawable(value)]
    if len(x) <= limit:
        shown = [value if drawable(value) else None for value in y]
        return Thinned(list(x), shown, [], [], _ranges(x, y, bad), len(bad))
    kept_x: list[float] = []
    kept_y: list[float | None] = []
    mean_x: list[float] = []
    mean_y: list[float | None] = []
    buckets = max(1, (limit - 2) // 4)
    edges = [len(x) * i // buckets for i in range(buckets + 1)]
    for start, stop in pairwise(edges):
        finite = [i for i in range(start, stop) if drawable(y[i])]
        keep: set[int] = set()
        if len(finite) < stop - start:
            keep.add(next(i for i in range(start, stop) if not drawable(y[i])))
        if finite:
            keep |= {min(finite, key=y.__getitem__), max(finite, key=y.__getitem__)}
        keep |= {i for i in (0, len(x) - 1) if start <= i < stop}
        for i in sorted(keep):
            kept_x.append(x[i])
            kept_y.append(y[i] if drawable(y[i]) else None)
        mean_x.append(x[(start + stop - 1) // 2])
        mean_y.append(math.fsum(y[i] for i in finite) / len(finite) if finite else None)
    return Thinned(kept_x, kept_y, mean_x, mean_y, _ranges(x, y, bad), len(bad))


def _ranges(
    x: Sequence[float], y: Sequence[float], bad: list[int]
) -> list[tuple[float, float, str]]:
    """Neighbouring non-finite points as (first turn, last turn, what the first one was)."""
    ranges: list[tuple[float, float, str]] = []
    previous = -2
    for i in bad:
        if i == previous + 1:
            ranges[-1] = (ranges[-1][0], x[i], ranges[-1][2])
        elif len(ranges) < _MARKED_RANGES:
            kind = "NaN" if math.isnan(y[i]) else ("∞" if y[i] > 0 else "-∞")
            ranges.append((x[i], x[i], kind))
        else:
            ranges[-1] = (ranges[-1][0], x[i], ranges[-1][2])
        previous = i
    return ranges


def payload(shown: Sequence[Chart], epoch_ends: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What report.js draws from: short keys, turns as differences, five significant digits."""
    limit = _fair([len(line.x) for chart in shown for line in chart.lines])
    return {
        "runs": [_differences(ends) for ends in epoch_ends],
        "charts": [_chart(chart, limit) for chart in shown],
    }


def _fair(lengths: Sequence[int]) -> int:
    """The largest limit for one curve that keeps the page within its points: short curves give way."""
    left, limit = POINTS_PER_PAGE, POINTS_PER_CURVE
    for done, length in enumerate(sorted(lengths)):
        limit = left // (len(lengths) - done)
        if length > limit:
            break
        left -= length
    return min(POINTS_PER_CURVE, max(120, limit))


def _chart(chart: Chart, limit: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"t": chart.label, "l": [_line(line, limit) for line in chart.lines]}
    if is_share(chart.title) and all(
        0 <= y <= 1 for line in chart.lines for y in line.y if not math.isnan(y)
    ):
        entry["p"] = 1  # shown in percent
    if chart.optimization and not chart.title.startswith("grad"):
        entry["k"] = 1  # set, not measured: never smoothed
    return entry


def _line(line: Line, limit: int) -> dict[str, Any]:
    few = thin(line.x, line.y, limit)
    entry: dict[str, Any] = {"n": line.label, "c": line.color, "v": line.views}
    entry |= {"x": _differences(few.x), "y": _digits(few.y)}
    if few.mean_x:
        entry |= {"mx": _differences(few.mean_x), "my": _digits(few.mean_y)}
    if few.bad:
        entry |= {"b": few.bad, "bn": few.bad_count}
    if line.epoch_x and len(line.epoch_x) == len(few.x):
        entry["e"] = _differences(line.epoch_x)
    if line.run:
        entry["r"] = line.run
    return entry


def _differences(values: Sequence[float]) -> list[int]:
    whole = [round(value) for value in values]
    return [b - a for a, b in pairwise([0, *whole])]


def _digits(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in values]


def epoch_ends(rows: Sequence[EpochRow]) -> list[float]:
    """The turn at the end of each epoch, never falling."""
    return list(accumulate((_turn(row) for row in rows), max))


def _turn(row: EpochRow) -> float:
    turn = to_float(row.turn)
    return turn if math.isfinite(turn) else 0.0
