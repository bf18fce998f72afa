"""A confusion matrix and what follows from it, ready for the page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from loopwright.events import Classification, Worst

TABLE_CLASSES = 24
CANVAS_CELLS = 20_000
WORST_SHOWN = 48

_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(slots=True)
class PerClass:
    """One class: how many there were, and how well they were found."""

    name: str
    support: int
    recall: float
    precision: float
    f1: float


@dataclass(slots=True)
class Confused:
    """One kind of mistake and how often it was made."""

    target: str
    predicted: str
    count: int
    share: float


@dataclass(slots=True)
class ConfusionView:
    """One labelled split: overall numbers, classes, mistakes, cells and the worst samples."""

    split: str
    names: list[str]
    total: int
    right: int
    accuracy: float
    macro_f1: float
    classes: list[PerClass]
    mistakes: list[Confused]
    rows: list[list[tuple[int, float]]] | None
    sparse: dict[str, Any] | None
    dropped: int
    worst: list[Worst]
    upright: bool


def confusion(record: Classification) -> ConfusionView:
    """Everything that is shown about one split; a class without a name is called by its number."""
    size = max([len(record.counts), *(len(row) for row in record.counts)], default=0)
    names = [str(name) for name in record.classes[:size]]
    names += [str(i) for i in range(len(names), size)]
    counts = [[_whole(v) for v in row] + [0] * (size - len(row)) for row in record.counts]
    counts += [[0] * size for _ in range(size - len(counts))]
    in_row = [sum(row) for row in counts]
    in_column = [sum(column) for column in zip(*counts, strict=True)]
    classes = [
        PerClass(
            names[i],
            in_row[i],
            _ratio(counts[i][i], in_row[i]),
            _ratio(counts[i][i], in_column[i]),
            _ratio(2 * counts[i][i], in_row[i] + in_column[i]),
        )
        for i in range(size)
    ]
    cells = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n]
    wrong = sorted((cell for cell in cells if cell[1] != cell[2]), reverse=True)
    total, right = sum(in_row), sum(counts[i][i] for i in range(size))
    present = [c.f1 for c in classes if c.support]
    small = size <= TABLE_CLASSES
    kept = sorted(cells, reverse=True)[:CANVAS_CELLS]
    return ConfusionView(
        split=record.split,
        names=names,
        total=total,
        right=right,
        accuracy=_ratio(right, total),
        macro_f1=_ratio(sum(present), len(present)),
        classes=classes,
        mistakes=[Confused(names[i], names[j], n, _ratio(n, in_row[i])) for n, i, j in wrong[:12]],
        rows=[[(n, _ratio(n, in_row[i])) for n in row] for i, row in enumerate(counts)]
        if small
        else None,
        sparse=None
        if small
        else {"names": names, "rows": in_row, "cells": [[i, j, n] for n, i, j in kept]},
        dropped=0 if small else len(cells) - len(kept),
        worst=[_safe(sample) for sample in record.worst[:WORST_SHOWN]],
        upright=any(len(name) > 3 for name in names),
    )


def _safe(sample: Worst) -> Worst:
    """The sample without its picture unless that is a picture and nothing else."""
    picture = sample.image if sample.image and _IMAGE.fullmatch(sample.image) else None
    return Worst(
        sample.index, sample.target, sample.predicted, sample.probability, sample.loss,
        picture, sample.text,
    )  # fmt: skip


def _whole(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, (int, float)) and math.isfinite(value) else 0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
