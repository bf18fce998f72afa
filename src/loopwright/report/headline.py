"""The few numbers that a run is asked for first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loopwright.events import RunRecord
from loopwright.report.curves import label, split_role
from loopwright.report.formats import count, direction, duration, large, metric, to_float

OUTCOMES = {
    "running": "Running",
    "finished": "Finished",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
    "failed": "Failed",
}


@dataclass(slots=True)
class Readout:
    """One number with what it is called and what stands under it."""

    label: str
    value: str
    note: str = ""


@dataclass(slots=True)
class Best:
    """A metric's best value, where it was seen and its last value; ``epoch`` counts from 1."""

    name: str
    value: float
    last: float | None
    turn: float | None
    epoch: float | None
    mode: str | None


def readouts(record: RunRecord) -> list[Readout]:
    """The headline, the most telling metric first; empty for a run that has done nothing."""
    shown: list[Readout] = []
    hero = main_metric(record)
    if hero is not None:
        shown.append(Readout(label(hero.name), metric(hero.name, hero.value), _where(hero)))
    shown.extend(_tested(record, hero))
    told = hero.name if hero else ""
    for name, words in (("valid_loss", "validation loss"), ("train_loss", "training loss")):
        value = last_value(record, name)
        if value is not None and name != told:
            shown.append(Readout(words, metric(name, value), _lowest(record, name)))
    loss = record.series.get("loss")
    if "train_loss" not in {n for row in record.epochs for n in row.values} and loss and loss.y:
        shown.append(Readout("training loss", metric("loss", loss.y[-1]), "last step"))
    totals = record.totals
    epochs = totals.get("epochs") or len(record.epochs)
    updates = totals.get("updates") or totals.get("turns")
    if epochs:
        note = f"{count(updates)} updates" if updates else ""
        shown.append(Readout("epochs", _epochs(epochs), note))
    elif updates:
        shown.append(Readout("updates", count(updates), ""))
    if record.outcome.seconds:
        each = record.outcome.seconds / epochs if epochs else 0
        note = f"{duration(each)} an epoch" if each else ""
        shown.append(Readout("time", duration(record.outcome.seconds), note))
    speed, unit = throughput(record)
    if speed is not None:
        note = f"{large(totals.get(unit))} {unit} in all"
        shown.append(Readout(f"{unit}/s", large(speed) if speed >= 10 else f"{speed:.2g}", note))
    return shown


def _tested(record: RunRecord, hero: Best | None) -> list[Readout]:
    """The result on the data that chose nothing: the hero's metric there, or whatever there is."""
    found = [name for name in record.totals if split_role(name)[0] == "test"]
    wanted = f"test_{split_role(hero.name)[1]}" if hero else ""
    name = wanted if wanted in found else next(iter(found), None)
    if name is None:
        return []
    note = "data that chose nothing"
    return [Readout(label(name), metric(name, record.totals[name]), note)]


def _epochs(epochs: float) -> str:
    return count(epochs) if float(epochs).is_integer() else f"{epochs:.2f}"


def throughput(record: RunRecord) -> tuple[float | None, str]:
    """Samples (or tokens) per second of training steps; over the whole run where phases are unknown."""
    training = [to_float(p.seconds) for p in record.phases if p.name != "evaluate"]
    stepping = sum(seconds for seconds in training if seconds > 0)
    seconds = stepping or record.outcome.seconds
    for unit in ("samples", "tokens"):
        seen = to_float(record.totals.get(unit))
        if seen > 0 and seconds > 0 and math.isfinite(seen / seconds):
            return seen / seconds, unit
    return None, ""


def last_value(record: RunRecord, name: str) -> float | None:
    """What a metric was when it was last seen: at an epoch's end, otherwise at a step."""
    for row in reversed(record.epochs):
        if row.values.get(name) is not None:
            return to_float(row.values[name])
    series = record.series.get(name)
    return to_float(series.y[-1]) if series and series.y else None


def bests(record: RunRecord) -> list[Best]:
    """Every metric that was kept as best."""
    return [
        Best(
            name,
            to_float(entry.get("value")),
            last_value(record, name),
            entry.get("turn"),
            None if entry.get("epoch") is None else to_float(entry["epoch"]),
            direction(name),
        )
        for name, entry in record.best.items()
        if entry.get("value") is not None
    ]


def main_metric(record: RunRecord) -> Best | None:
    """What was kept as best; otherwise the first validation metric that is not a loss, then the loss."""
    kept = bests(record)
    if kept:
        return kept[0]
    names = list(dict.fromkeys(n for row in record.epochs for n in row.values))
    valid = [n for n in names if split_role(n)[0] == "valid"]
    chosen = [n for n in valid if split_role(n)[1] != "loss"] or valid
    return best_epoch(record, chosen[0]) if chosen else None


def best_epoch(record: RunRecord, name: str) -> Best | None:
    """The best epoch of a metric by the direction that its name tells; the last one otherwise."""
    rows = [
        (to_float(r.values[name]), i, r)
        for i, r in enumerate(record.epochs, 1)
        if r.values.get(name) is not None
    ]
    if not rows:
        return None
    finite = [entry for entry in rows if math.isfinite(entry[0])]
    mode = direction(name)
    value, epoch, row = rows[-1]
    if finite and mode is not None:
        value, epoch, row = (max if mode == "max" else min)(finite, key=lambda entry: entry[0])
    return Best(name, value, rows[-1][0], row.turn, epoch, mode)


def _where(best: Best) -> str:
    parts = []
    said = "best, " if best.mode and math.isfinite(best.value) else ""
    if best.epoch is not None:
        parts.append(f"{said}epoch {count(best.epoch)}")
    elif best.turn is not None:
        parts.append(f"{said}step {count(best.turn)}")
    if best.last is not None and metric(best.name, best.last) != metric(best.name, best.value):
        parts.append(f"last {metric(best.name, best.last)}")
    return " · ".join(parts)


def _lowest(record: RunRecord, name: str) -> str:
    best, last = best_epoch(record, name), last_value(record, name)
    if best is None or last is None or len(record.epochs) < 2 or not math.isfinite(best.value):
        return ""
    if best.value == last:
        return "lowest so far" if record.outcome.kind == "running" else "last and lowest"
    return f"lowest {metric(name, best.value)}"
