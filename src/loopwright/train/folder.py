"""A run's folder: which one a command means, what stands in it, and reading it back."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loopwright.errors import CheckpointError, DiskError, UsageError
from loopwright.events import (
    CheckpointRow,
    Classification,
    LayerRow,
    ModelSummary,
    Outcome,
    PhaseTime,
    RunRecord,
    Worst,
)
from loopwright.train.history import read, strict
from loopwright.train.identity import plain

FORMAT = 1


def choose(
    base: Path, name: str, recipe: dict[str, Any] | None, settings: dict[str, Any],
    resume: str = "auto",
) -> Path:  # fmt: skip
    """Return ``base/name/<n>``: the newest unfinished run of the same settings, or a new number.

    Args:
        recipe: as it is given to ``Run``.
        settings: as they are given to ``Run``; the length of the run may differ.
    """
    wanted = _without_limits(plain(settings))
    place = base / name
    numbers = []
    if place.is_dir():
        numbers = sorted(int(x.name) for x in place.iterdir() if x.name.isdigit() and x.is_dir())
    if resume != "never":
        for number in reversed(numbers):
            folder = place / str(number)
            asked = read_json(folder / "run.json")
            ended = read_json(folder / "outcome.json") or {}
            kind = ended.get("outcome", {}).get("kind", "running")
            if (
                isinstance(asked, dict) and kind not in ("finished", "stopped")
                and asked.get("recipe") == plain(recipe)
                and _without_limits(asked.get("asked") or {}) == wanted
            ):  # fmt: skip
                return folder
    return place / str(numbers[-1] + 1 if numbers else 1)


def _without_limits(settings: dict[str, Any]) -> dict[str, Any]:
    limits = ("epochs", "steps", "minutes", "samples", "tokens")
    return {name: value for name, value in settings.items() if name not in limits}


def put_aside(folder: Path) -> Path:
    """Rename a folder out of the way, so that nothing in it is lost; returns where it went."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def check_can_write(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before any work and without leaving one."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(
                    f"{place} is a file, not a folder", slug="out-is-a-file", hint="another out="
                )
            if not os.access(place, os.W_OK | os.X_OK):
                raise DiskError(f"{place} cannot be written to", slug="cannot-write")
            return


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(strict(value), file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}", slug="cannot-write"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}", slug="cannot-write"
        ) from error


def read_json(path: Path) -> Any:
    """Return a JSON file's value; None where there is no file or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """Return what a run left in its folder, finished or not.

    Raises:
        UsageError: there is no such folder.
        CheckpointError: it is not a run's folder, or a newer version's.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", slug="no-such-run")
    asked = read_json(folder / "run.json")
    if not isinstance(asked, dict) or "format" not in asked:
        raise CheckpointError(
            f"{folder} is not a run folder: it has no readable run.json", slug="not-a-run"
        )
    if asked["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} was written by a newer version (format {asked['format']}, this one reads "
            f"up to {FORMAT})",
            slug="newer-version", hint="upgrade loopwright",
        )  # fmt: skip
    record = RunRecord(
        name=asked["name"], folder=str(folder), command=asked["command"], started=asked["started"],
        settings=asked["settings"], recipe=asked.get("recipe"), environment=asked["environment"],
        model=_summary(asked.get("model")),
    )  # fmt: skip
    history = read(folder / "metrics.jsonl")
    record.series, record.epochs = history.series, history.epochs
    ended = read_json(folder / "outcome.json") or {}
    if "outcome" in ended:
        record.outcome = Outcome(**ended["outcome"])
    record.totals = {
        name: value if isinstance(value, (int, float)) else float(value)
        for name, value in ended.get("totals", {}).items()
    }
    record.best = ended.get("best", {})
    record.phases = [PhaseTime(**row) for row in ended.get("phases", [])]
    record.notes, record.samples = ended.get("notes", []), ended.get("samples", [])
    for item in read_json(folder / "evaluation.json") or []:
        worst = [Worst(**row) for row in item.pop("worst", [])]
        record.classifications.append(Classification(**item, worst=worst))
    record.checkpoints = _checkpoints(folder / "checkpoints")
    return record


def summary_as_json(summary: ModelSummary | None) -> Any:
    """Return a model's summary as JSON values."""
    return None if summary is None else asdict(summary)


def _summary(value: Any) -> ModelSummary | None:
    if not isinstance(value, dict):
        return None
    rows = [LayerRow(**row) for row in value.pop("rows", [])]
    return ModelSummary(**value, rows=rows)


def _checkpoints(place: Path) -> list[CheckpointRow]:
    from loopwright.checkpoint.store import Store

    try:
        return Store(place).rows()
    except FileNotFoundError:  # the run that writes here is just deleting an older one
        return []
    except CheckpointError:  # damaged; `verify` says what is wrong, a page only lists what is sound
        return []
