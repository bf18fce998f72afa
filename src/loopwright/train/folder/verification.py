"""What is sound in a run's folder: every checkpoint byte by byte, and each file beside them.

Changes nothing, takes no lock, follows no link and loads no tensor, so that it may look into the folder
of a run that is training, and into one from a stranger.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loopwright.checkpoint import catalog, lock, protection, publish, verify, verify_weights
from loopwright.checkpoint.manifest import FILES, MANIFEST
from loopwright.errors import LoopwrightError, UsageError
from loopwright.events import Part, RunRecord, Verification
from loopwright.train.folder import reading
from loopwright.train.folder.history import records, understood

WEIGHTS = ("final", "raw", "best")


def verification(path: Path) -> Verification:
    """Look at everything in a run's folder.

    Raises:
        UsageError: there is no folder, or nothing in it says that it is a run's.
    """
    if not path.is_dir():
        what = "is not a folder" if os.path.lexists(path) else "is not there"
        raise UsageError(
            f"{path} {what}", slug="no-such-run", where="command line", hint=reading.NAME_A_RUN
        )
    if not any(os.path.lexists(path / name) for name in ("run.json", "checkpoints")):
        raise UsageError(
            f"{path} is not a run folder: it has neither run.json nor checkpoints",
            slug="not-a-run", where="command line",
            hint=reading.NAME_A_RUN,
        )  # fmt: skip
    in_use = lock.holder_of(path)
    found = Verification(str(path), reading.outcome_kind(path), [], "", in_use=in_use)
    found.parts += [*_asked(path), *_written_along(path), *_weights(path, found)]
    sound = _checkpoints(path / "checkpoints", found)
    found.parts += _passing(path, in_use is not None)
    _resume(found, sound)
    return found


# -- files ---------------------------------------------------------------------------------------


def _asked(path: Path) -> Iterator[Part]:
    try:
        reading.read_asked(path)
        yield _part(path / "run.json", "readable")
    except LoopwrightError as error:
        yield _part(path / "run.json", "damaged", error.what.partition(": ")[2] or error.what)


def _written_along(path: Path) -> Iterator[Part]:
    """Yield the files that grow or are replaced while a run goes on."""
    for name in ("outcome.json", "evaluation.json"):
        if os.path.lexists(path / name):
            why = reading.take(RunRecord(name=""), path, name)
            yield _part(path / name, "damaged" if why else "readable", why)
        elif name == "outcome.json" and (path / "checkpoints").is_dir():
            yield Part(name, "damaged", says="it is missing")
    if os.path.lexists(path / "metrics.jsonl"):
        yield _metrics(path / "metrics.jsonl")


def _metrics(path: Path) -> Part:
    lines = bad = cut = 0
    try:
        for lines, record in enumerate(records(path), 1):  # noqa: B007
            bad += record is None or not understood(record)
            cut += record == {}
    except OSError:
        return _part(path, "damaged", "it is not a file")
    if bad:
        of = f"{_count(bad, 'line')} of {lines:,} {'is' if bad == 1 else 'are'} not ours"
        return _part(path, "damaged", of)
    says = f"{_count(lines, 'line')}"
    return _part(path, "readable", says + (f", {cut} cut off by a crash" if cut else ""))


def _weights(path: Path, found: Verification) -> Iterator[Part]:
    """Yield the files of weights; those that how the run ended promises are missed."""
    promised = set()
    if found.outcome in ("finished", "stopped") and found.in_use is None:
        promised.add("final")
    if _best_is_promised(path) and found.in_use is None:
        promised.add("best")
    for name in WEIGHTS:
        place = path / f"{name}.safetensors"
        if name in promised or os.path.lexists(place):
            problems = verify_weights(place)
            yield _part(place, "damaged" if problems else "sound", "; ".join(problems))


def _best_is_promised(path: Path) -> bool:
    ended = reading.read_json(path / "outcome.json")
    return isinstance(ended, dict) and bool(ended.get("best"))


# -- checkpoints ---------------------------------------------------------------------------------


def _checkpoints(place: Path, found: Verification) -> list[str]:
    """Add the checkpoints' parts; returns the sound ones, oldest first."""
    if not os.path.lexists(place):
        return []
    try:
        entries = catalog.entries(place)
    except LoopwrightError as error:
        found.parts.append(_part(place, "damaged", error.what.partition(" ")[2]))
        return []
    parts = {}
    for entry in entries:
        part = _steadily(place / entry.name, _checkpoint)
        if part is not None:
            parts[entry.name] = part
    found.parts += [*parts.values(), *_protected(place, parts)]
    return [name for name, part in parts.items() if part.state == "sound"]


def _checkpoint(folder: Path) -> Part:
    problems = verify(folder)
    words = [problem.partition(": ")[2] or problem for problem in problems]
    size = 0
    if not folder.is_symlink():
        files = [folder / name for name in (*FILES, MANIFEST)]
        size = sum(map(_size, [*files, *folder.glob("shard-*.safetensors")]))
    return Part(
        f"checkpoints/{folder.name}", "damaged" if words else "sound", size, "; ".join(words)
    )


def _steadily(folder: Path, look: Callable[[Path], Part]) -> Part | None:
    """Look again when a run that trains here replaced the folder meanwhile; None if it is gone."""
    while True:
        before = _identity(folder)
        try:
            part = look(folder)
        except FileNotFoundError:
            if _identity(folder) == before:
                raise
            continue  # it went away between two looks into it
        after = _identity(folder)
        if after is None:
            return None
        if part.state == "sound" or before == after:
            return part


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _protected(place: Path, parts: dict[str, Part]) -> Iterator[Part]:
    path = place / protection.PROTECTED
    shown = f"checkpoints/{path.name}"
    try:
        names = protection.read(place)
    except FileNotFoundError:
        return
    except OSError:
        yield Part(shown, "damaged", says="it is not a file")
        return
    except (ValueError, KeyError, TypeError, RecursionError):
        yield Part(shown, "damaged", _size(path), "not what was written")
        return
    # A run that trains here may have written one since the list was made.
    gone = sorted(name for name in names - parts.keys() if not os.path.lexists(place / name))
    says = f"it names {', '.join(gone)}, which is not there" if gone else ""
    yield Part(shown, "damaged" if gone else "readable", _size(path), says)


def _resume(found: Verification, sound: list[str]) -> None:
    """Say what the same command would do."""
    checkpoints = [part for part in found.parts if part.name.startswith("checkpoints/loop-")]
    broken = [part for part in checkpoints if part.state == "damaged"]
    newest = sound[-1] if sound else None
    if found.in_use is not None:
        found.resume = f"would be refused: {found.in_use} is using the folder"
    elif any(part.name == "run.json" for part in found.damaged):
        found.resume = "would be refused: run.json cannot be read"
    elif newer := next((p.says for p in reversed(broken) if "reads up to" in p.says), None):
        found.resume = f"would be refused: {newer}"
    elif newest is not None:
        found.resumes_from = newest
        passed = checkpoints[checkpoints.index(_named(checkpoints, newest)) + 1 :]
        over = f", passing over {_count(len(passed), 'damaged one')}" if passed else ""
        found.resume = f"goes on from {newest}{over}"
        if found.outcome in ("finished", "stopped") and not passed:
            found.resume = (
                f"changes nothing, for the run has {found.outcome}; a longer one {found.resume}"
            )
    elif checkpoints or any(part.name == "checkpoints" for part in found.damaged):
        found.resume = "would be refused: no checkpoint is sound"
    else:
        found.resume = "begins at the beginning: there is no checkpoint yet"


def _named(parts: list[Part], name: str) -> Part:
    return next(part for part in parts if part.name == f"checkpoints/{name}")


# -- what does no harm ---------------------------------------------------------------------------


def _passing(path: Path, in_use: bool) -> Iterator[Part]:
    """Yield unfinished writes (the next start removes them), and a lock that is none."""
    says = "being written" if in_use else "an unfinished write; the next start removes it"
    for place, below in ((path, ""), (path / "checkpoints", "checkpoints/")):
        if place.is_dir() and not place.is_symlink():
            for name in sorted(os.listdir(place)):
                if publish.LEFTOVER.fullmatch(name):
                    yield Part(below + name, "passing", says=says)
    if os.path.islink(path / lock.LOCK):
        yield Part(lock.LOCK, "damaged", says="it is a symbolic link")


def _part(path: Path, state: Any, says: str = "") -> Part:
    return Part(path.name, state, _size(path), says)


def _size(path: Path) -> int:
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
