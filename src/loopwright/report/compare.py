"""Several runs side by side: the settings that differ, what each came to, their curves laid over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loopwright.events import RunRecord
from loopwright.report import formats, headline
from loopwright.report.curves import Chart, charts, epoch_ends, label, payload, split_role
from loopwright.report.html import page

RUNS_SHOWN = 40
RESULTS_SHOWN = 12
FIRST_CHARTS = 10


@dataclass(slots=True)
class ResultRow:
    """One quantity in every run; ``best`` marks the runs that did best at it."""

    label: str
    texts: list[str]
    best: list[bool]


def render(records: Sequence[RunRecord]) -> str:
    """One self-contained HTML page that compares runs, in the order given.

    At most ``RUNS_SHOWN`` runs are compared, the first ones; the page says how many were left out.
    """
    shown = list(records[:RUNS_SHOWN])
    names = labels(shown)
    overlaid = overlay(shown, names)
    data = payload(overlaid, [epoch_ends(record.epochs) for record in shown])
    for chart in data["charts"]:
        for line in chart["l"]:
            dash = line.get("r", 0) // 10
            if dash:
                line["d"] = ("6 3", "2 3", "9 3 2 3")[(dash - 1) % 3]
    return page(
        "compare.html.jinja",
        data=data,
        title=f"{len(shown)} runs",
        names=names,
        records=shown,
        outcomes=headline.OUTCOMES,
        left_out=len(records) - len(shown),
        settings=differing_settings(shown),
        results=results(shown),
        charts=overlaid[:FIRST_CHARTS],
        more_charts=overlaid[FIRST_CHARTS:],
        chart_number={id(chart): i for i, chart in enumerate(overlaid)},
        any_epochs=any(record.epochs for record in shown),
    )


def labels(records: Sequence[RunRecord]) -> list[str]:
    """A distinct name for every run: its name, then its folder's, then its number."""
    names = [record.name or "run" for record in records]
    if len(set(names)) < len(names):
        names = [
            f"{name} {(record.folder or '').rstrip('/').rpartition('/')[2]}".strip()
            for name, record in zip(names, records, strict=True)
        ]
    if len(set(names)) < len(names):
        names = [f"{name} #{i}" for i, name in enumerate(names, start=1)]
    return names


def differing_settings(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Settings and recipe parameters that are not the same in all runs; a missing one is a dash."""
    every = []
    for record in records:
        parameters = (record.recipe or {}).get("parameters") or {}
        every.append(formats.flatten(parameters) | formats.flatten(record.settings))
    names = dict.fromkeys(name for settings in every for name in settings)
    rows = {name: [s.get(name, formats.MISSING) for s in every] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def results(records: Sequence[RunRecord]) -> list[ResultRow]:
    """Best validation metrics, last losses, time and speed, the best of each marked."""
    rows = []
    metrics = dict.fromkeys(
        name
        for record in records
        for name in [*record.best, *(n for row in record.epochs[-1:] for n in row.values)]
    )
    ranked = sorted(
        metrics, key=lambda name: {"valid": 0, "test": 1}.get(split_role(name)[0] or "", 2)
    )
    for name in ranked[:RESULTS_SHOWN]:
        mode = formats.direction(name)
        values = [_value(record, name) for record in records]
        words = ("best " if mode and split_role(name)[0] == "valid" else "") + label(name)
        rows.append(_row(words, values, [formats.metric(name, v) for v in values], mode))
    times = [record.outcome.seconds or None for record in records]
    rows.append(
        _row("time", times, [formats.duration(math.nan if t is None else t) for t in times], None)
    )
    speeds = [headline.throughput(record)[0] for record in records]
    rows.append(
        _row(
            "samples/s", speeds, [formats.large(s) if s else formats.MISSING for s in speeds], "max"
        )
    )
    sizes = [record.model.parameters if record.model else None for record in records]
    rows.append(
        _row(
            "parameters",
            sizes,
            [formats.MISSING if s is None else formats.large(s) for s in sizes],
            None,
        )
    )
    return [row for row in rows if set(row.texts) != {formats.MISSING}]


def _value(record: RunRecord, name: str) -> float | None:
    """The kept best; for validation metrics the best epoch; otherwise the last value."""
    kept = record.best.get(name, {}).get("value")
    if kept is not None:
        return formats.to_float(kept)
    if split_role(name)[0] == "valid":
        best = headline.best_epoch(record, name)
        return None if best is None else best.value
    return headline.last_value(record, name)


def _row(
    label: str, values: Sequence[float | None], texts: list[str], mode: str | None
) -> ResultRow:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if mode is None or len(finite) < 2 or min(finite) == max(finite):
        return ResultRow(label, texts, [False] * len(texts))
    top = max(finite) if mode == "max" else min(finite)
    return ResultRow(label, texts, [v == top for v in values])


def overlay(records: Sequence[RunRecord], names: Sequence[str]) -> list[Chart]:
    """One chart for each curve that any run has, one line for each run that has it."""
    found: dict[tuple[bool, str], Chart] = {}
    for number, (record, name) in enumerate(zip(records, names, strict=True)):
        for chart in charts(record):
            for line in chart.lines:
                per_step_loss = chart.title == "loss" and line.views == "s"
                role = {"train": "train_", "valid": "valid_", "test": "test_"}.get(line.label, "")
                title = "loss of each step" if per_step_loss else role + chart.title
                key = (chart.optimization, title)
                target = found.setdefault(key, Chart(title, [], chart.optimization))
                line.label, line.color, line.run = name, number % 10, number
                if per_step_loss or line.views == "e":
                    line.views = line.views if per_step_loss else "se"
                target.lines.append(line)
    return sorted(found.values(), key=_importance)


def _importance(chart: Chart) -> tuple[bool, int]:
    order = ["valid", "test", "train"]
    role = split_role(chart.title)[0]
    return (chart.optimization, order.index(role) if role in order else len(order))
