"""Reads what the processes of one program left, and picks the one that a page is about."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from loopwright.events.explained import ExplainRecord, LineNote, StepNote
from loopwright.explainer.sentences.narrate import narrate

_RUNS, _RUNS_NOT = "It runs this line.", "It does not run this line."


def read(folder: Path) -> ExplainRecord | None:
    """The record of the process that trained: rank 0, else the one with most steps; None if none did."""
    records = [
        plain(ExplainRecord, json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))
    ]
    if not records:
        return None
    steps = [sum(loop.turns for loop in one.loops if loop.kind == "training") for one in records]
    best = max(range(len(records)), key=lambda at: (bool(steps[at]), records[at].rank == 0, steps[at],
                                                    len(records[at].steps)))  # fmt: skip
    chosen: ExplainRecord = records[best]
    chosen.processes = len(records)
    others = sorted((one for one in records if one.rank is not None and one is not chosen),
                    key=lambda one: one.rank or 0)  # fmt: skip
    if others and chosen.rank is not None:
        chosen.notes.append(
            f"{len(others) + 1} ranks ran the same loop; this is rank {chosen.rank}, and where another one "
            f"did something else, that stands beside it"
        )
        side_by_side(chosen, others)
    ends = sorted(folder.glob("*.end"))
    if ends and chosen.program.exception is None:
        chosen.program.exception = ends[0].read_text()
    return chosen


def side_by_side(chosen: ExplainRecord, others: list[ExplainRecord]) -> None:
    """Put what other ranks did differently beside what the chosen one did, step by step and line by line."""
    narrate(chosen)
    for other in others:
        rank = str(other.rank)
        narrate(other)
        steps = {(_loop_of(other, step), step.number): step for step in other.steps}
        for step in chosen.steps:
            peer = steps.get((_loop_of(chosen, step), step.number))
            if peer is None:
                continue
            step.ranks.setdefault(str(chosen.rank), step.losses)
            step.ranks[rank] = peer.losses
            lines = {(other.files[one.file].path, one.line): one for one in peer.lines}
            for line in step.lines:
                there = lines.get((chosen.files[line.file].path, line.line))
                told = there.sentences if there is not None else [_RUNS_NOT]
                own = [one for one in told if one not in line.sentences]
                if own:
                    line.ranks[rank] = own
            step.lines += _only_there(chosen, step, other, peer, rank)


def _only_there(
    chosen: ExplainRecord, step: StepNote, other: ExplainRecord, peer: StepNote, rank: str
) -> list[LineNote]:
    """Return lines that the other rank runs in a step and the chosen one does not."""
    files = {file.path: number for number, file in enumerate(chosen.files)}
    here = {(chosen.files[line.file].path, line.line): line for line in step.lines}
    more = []
    for there in peer.lines:
        path = other.files[there.file].path
        known = here.get((path, there.line))
        if known is not None:
            if not known.visits:  # another rank has run it, too
                known.ranks[rank] = there.sentences or [_RUNS]
        elif path in files:
            more.append(
                LineNote(
                    files[path], there.line, there.end_line, visits=0,
                    ranks={str(chosen.rank): [_RUNS_NOT], rank: there.sentences or [_RUNS]},
                )
            )  # fmt: skip
    return more


def _loop_of(record: ExplainRecord, step: StepNote) -> tuple[str, int, str]:
    loop = record.loops[step.loop]
    file = record.files[loop.file].path if loop.file >= 0 else loop.library
    return (file, loop.line, loop.kind if loop.line else loop.name)


def plain(kind: Any, value: Any) -> Any:
    """A dataclass, or a list or dict of them, from its plain form.

    >>> from loopwright.events import Place
    >>> plain(list[Place], [{"file": "a.py", "line": 3}])[0].line
    3
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [one for one in typing.get_args(kind) if one is not type(None)]
        return None if value is None else plain(inner[0], value)
    if origin is list:
        (inner,) = typing.get_args(kind)
        return [plain(inner, one) for one in value]
    if origin is dict:
        _, inner = typing.get_args(kind)
        return {key: plain(inner, one) for key, one in value.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: plain(hints[name], one) for name, one in value.items()})  # type: ignore[operator]
    return float(value) if kind is float and isinstance(value, str) else value  # "NaN" in JSON
