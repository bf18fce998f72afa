"""Where a step goes, from turns that were timed and not otherwise looked at."""

from __future__ import annotations

from statistics import median
from typing import Any

from loopwright.events import PHASES
from loopwright.events.explained import TimingNote
from loopwright.explainer import device
from loopwright.explainer.advice import advise
from loopwright.explainer.turns import DEEP, Turn

OWN = "own Python"


def measure(recording: Any, numbers: dict[int, int]) -> list[TimingNote]:
    """One note for each loop that holds steps or evaluations."""
    found = []
    settled = device.settle()
    for record in recording.loops.values():
        if id(record) not in numbers or not record.eventful:
            continue
        turns = [turn for turn in recording.timed_turns if turn.record is record and turn.events]
        recorded = not turns
        if recorded:
            turns = [turn for turn in recording.kept if turn.record is record and turn.mode == DEEP]
        if turns:
            for turn in turns:
                turn.spans = sorted(_spans(turn, set(numbers)), key=lambda span: span.began)
            note = _of(turns, numbers[id(record)], set(numbers), recorded=recorded)
            near = min(turns, key=lambda turn: abs(_seconds(turn) - note.seconds))
            if settled:
                note.device = device.phases(turns)
                note.waits = device.waits(turns)
                note.timeline = device.timeline(near)
                _told_by_events(recording, record, device.waits(turns, by_line=True))
            note.advice = advise(note, record, recording, turns)
            found.append(note)
    return found


def _told_by_events(recording: Any, record: Any, waits: dict[str, list[float]]) -> None:
    """Give events of recorded turns what calls at their places waited and copied in timed ones.

    In a recorded turn our own looks have waited for the device already.
    """
    for turn in recording.kept:
        if turn.record is not record:
            continue
        for visit in turn.everything():
            for event in visit.events:
                found = waits.get(f"{visit.statement.source.path}:{event.line}")
                if found is not None and event.kind in ("item", "transfer"):
                    event.facts["waited"], event.facts["copied_in"] = found


def _of(turns: list[Turn], number: int, shown: set[int], *, recorded: bool) -> TimingNote:
    """Medians line by line and phase by phase; a step is the sum of its lines.

    The median of whole turns would count what other programs on the machine took in one line or another as
    the time of none.
    """
    lines: dict[str, list[float]] = {}
    phases: dict[Part, list[float]] = {}
    for turn in turns:
        own: dict[str, float] = {}
        parts = _phases(turn, shown)
        for visit in _visits(turn, shown):
            key = f"{visit.statement.source.number}:{visit.statement.line}"
            own[key] = own.get(key, 0.0) + visit.own / 1e9
            if visit.statement.heads is not None and visit.statement.heads is turn.loop:
                # All of the loop's head is waiting for the next batch, whoever provides it.
                parts[id(turn.record), "fetch"] = visit.total / 1e9
        for key, one in own.items():
            lines.setdefault(key, []).append(one)
        for part, one in parts.items():
            phases.setdefault(part, []).append(one)
    each = {key: _middle(found, len(turns)) for key, found in lines.items()}
    middle = dict.fromkeys(PHASES, 0.0)
    for (_, name), found in phases.items():
        middle[name] += _middle(found, len(turns))
    total = max(sum(each.values()), sum(middle.values()))
    middle[OWN] = total - sum(middle.values())
    kept = {name: one for name, one in middle.items() if one >= 1e-9}  # what is less is rounding
    return TimingNote(number, len(turns), total, kept, each, recorded=recorded)


def _seconds(turn: Turn) -> float:
    return (turn.ended - turn.began - turn.overhead) / 1e9


def _middle(found: list[float], turns: int) -> float:
    """The median; the mean of what does not happen in most turns (a step after accumulating)."""
    there = sum(one > 0 for one in found)
    return median(found) if there > turns / 2 else sum(found) / turns


def _inner(turn: Turn, shown: set[int]) -> list[Turn]:
    """Turns of loops that are part of the step; a loop that is shown by itself is timed by itself."""
    return [one for one in turn.inner if id(one.record) not in shown]


def _visits(turn: Turn, shown: set[int]) -> list[Any]:
    return [*turn.visits, *(v for inner in _inner(turn, shown) for v in _visits(inner, shown))]


Part = tuple[int, str]
"""A loop and a phase: a validation in one step of twenty has a mean of its own, as its lines have."""


def _spans(turn: Turn, shown: set[int]) -> list[Any]:
    """Calls of the turn, those of its micro-batches included."""
    return [*turn.spans, *(span for one in _inner(turn, shown) for span in _spans(one, shown))]


def _phases(turn: Turn, shown: set[int]) -> dict[Part, float]:
    found = {(id(turn.record), name): one / 1e9 for name, one in turn.phases.items()}
    for inner in _inner(turn, shown):
        for part, one in _phases(inner, shown).items():
            found[part] = found.get(part, 0.0) + one
    return found
