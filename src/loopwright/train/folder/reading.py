"""A run's folder: which one a command means, what stands in it, and reading it back."""

from __future__ import annotations

import os
import re
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
from loopwright.train.folder.history import read
from loopwright.train.folder.plain_files import Unreadable, parse, read_json, write_json, write_text
from loopwright.train.state.identity import plain
from loopwright.train.state.rates import optimizers, whose

__all__ = ["choose", "put_aside", "read_json", "read_run", "write_json", "write_text"]

FORMAT = 1
_NUMBER = re.compile(r"[0-9]{1,9}")
NAME_A_RUN = "name a folder that a run made, such as runs/digits/1"
_COPY = "bring run.json back from a copy, or another out="


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
        numbers = sorted(
            int(x.name) for x in place.iterdir() if _NUMBER.fullmatch(x.name) and x.is_dir()
        )
    if resume != "never":
        for number in reversed(numbers):
            folder = place / str(number)
            asked = read_json(folder / "run.json")
            kind = outcome_kind(folder)
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


def outcome_kind(folder: Path) -> str:
    """Return how the run in a folder ended; "running" where nothing readable says so."""
    ended = read_json(folder / "outcome.json")
    outcome = ended.get("outcome") if isinstance(ended, dict) else None
    kind = outcome.get("kind") if isinstance(outcome, dict) else None
    return kind if isinstance(kind, str) else "running"


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
                raise DiskError(
                    f"{place} cannot be written to", slug="cannot-write",
                    hint="another out=, or change its permissions",
                )  # fmt: skip
            return


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """Return what a run left in its folder, finished or not.

    Raises:
        UsageError: there is no such folder.
        CheckpointError: it is not a run's folder, or a newer version's.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", slug="no-such-run", hint=NAME_A_RUN)
    record = read_asked(folder)
    history = read(folder / "metrics.jsonl")
    record.series, record.epochs = history.series, history.epochs
    if history.unreadable:
        record.notes.append(f"metrics.jsonl: {history.unreadable}")
    for name in _TAKEN:
        if why := take(record, folder, name):
            record.notes.append(f"{name} could not be read ({why}): what it says is left out")
    record.checkpoints = _checkpoints(folder / "checkpoints")
    return record


def read_asked(folder: Path) -> RunRecord:
    """Return what ``run.json`` says, and nothing of what came of it.

    Raises:
        CheckpointError: it is not a run's folder, or a newer version's.
    """
    asked = _asked(folder)
    try:
        identity = dict(asked["identity"])
        return RunRecord(
            name=str(asked["name"]), folder=str(folder), command=list(asked["command"]),
            started=str(asked["started"]), lr_of=whose(identity),
            settings=optimizers(identity) | dict(asked["settings"]),
            recipe=None if asked.get("recipe") is None else dict(asked["recipe"]),
            environment=dict(asked["environment"]), model=_summary(asked.get("model")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_run(folder, f"run.json lacks something ({_named(error)})", _COPY) from error


def _asked(folder: Path) -> dict[str, Any]:
    try:
        asked = parse(folder / "run.json")
    except Unreadable as error:
        raise _not_a_run(folder, f"run.json cannot be read: {error}", _COPY) from error
    if asked is None:
        raise _not_a_run(folder, "it has no run.json", NAME_A_RUN)
    if not isinstance(asked, dict) or type(asked.get("format")) is not int:
        raise _not_a_run(folder, "run.json is not one of ours", NAME_A_RUN)
    if asked["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} was written by a newer version (format {asked['format']}, this one reads "
            f"up to {FORMAT})",
            slug="newer-version", hint="upgrade loopwright",
        )  # fmt: skip
    return asked


def _not_a_run(folder: Path, why: str, hint: str) -> CheckpointError:
    return CheckpointError(f"{folder} is not a run folder: {why}", slug="not-a-run", hint=hint)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def take(record: RunRecord, folder: Path, name: str) -> str:
    """Enter ``outcome.json`` or ``evaluation.json`` into a record; returns why not, if not."""
    try:
        _TAKEN[name](record, parse(folder / name))
    except Unreadable as error:
        return str(error)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"malformed: {_named(error)}"
    return ""


def _take_outcome(record: RunRecord, ended: Any) -> None:
    if ended is None:
        return
    outcome = Outcome(**ended["outcome"])
    totals = _numbers(ended["totals"])
    best = {name: _numbers(one) for name, one in ended["best"].items()}
    phases = [PhaseTime(**row) for row in ended["phases"]]
    notes, samples = [str(note) for note in ended["notes"]], [str(x) for x in ended["samples"]]
    record.outcome, record.totals, record.best, record.phases = outcome, totals, best, phases
    record.notes += [note for note in notes if note not in record.notes]
    record.samples, record.concluded = samples, bool(ended["concluded"])


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: value if isinstance(value, (int, float)) else float(value)
        for name, value in values.items()
    }


def _take_evaluation(record: RunRecord, found: Any) -> None:
    made = []
    for item in found or []:
        worst = [Worst(**row) for row in item.pop("worst", [])]
        made.append(Classification(**item, worst=worst))
    record.classifications = made


_TAKEN = {"outcome.json": _take_outcome, "evaluation.json": _take_evaluation}


def summary_as_json(summary: ModelSummary | None) -> Any:
    """Return a model's summary as JSON values."""
    return None if summary is None else asdict(summary)


def _summary(value: Any) -> ModelSummary | None:
    if not isinstance(value, dict):
        return None
    rows = [LayerRow(**row) for row in value.pop("rows", [])]
    return ModelSummary(**value, rows=rows)


def _checkpoints(place: Path) -> list[CheckpointRow]:
    """Return the checkpoints of a run that have a sound manifest, oldest first."""
    from loopwright.checkpoint.store import Store

    try:
        return Store(place).rows()
    except FileNotFoundError:  # the run that writes here is just deleting an older one
        return []
    except CheckpointError:  # damaged; `verify` says what is wrong, a page only lists what is sound
        return []
