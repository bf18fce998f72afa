"""Two explanations side by side: lines are aligned by their text, and what they did by loop and step.

A changed number changes the numbers of all that comes after it, because the weights differ. So lines whose
numbers alone differ, and not in the first step that differs at all, are marked as following.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import PurePath
from typing import Literal

from loopwright.events.explained import (
    DifferenceRecord,
    ExplainRecord,
    FileNote,
    LineChange,
    LineNote,
)
from loopwright.report import formats
from loopwright.report.explain_view import (
    main_loop,
    microtime,
    steps_of,
    timing_of,
    without_numbers,
)

ALIKE = 0.5
"""Share of a changed line's text that must be the same for it to be taken as the same line."""
CLOCK = re.compile(r", after waiting [^;.]*\([^)]*\)")
"""What a sentence says of the clock, which is different every time."""
UNIT = re.compile(r"#\s(B|kB|MB|GB)\b")
SLOWER = 1.25
"""Times nearer to each other are those of the same program, run twice."""


@dataclass(slots=True)
class Place:
    """One statement in one of the programs."""

    line: int
    text: str
    file: str
    notes: dict[tuple[str, int, int], LineNote] = field(default_factory=dict)
    """By loop (its kind and number among its kind) and step; ``("", 0, 0)`` outside of loops."""


def difference(before: ExplainRecord, after: ExplainRecord) -> DifferenceRecord:
    """What changed from one narrated record to the other."""
    record = DifferenceRecord(before=before.title, after=after.title)
    loops = _loops(before), _loops(after)
    for old, new in _pairs(before, after):
        first = _places(before, old, loops[0]) if old is not None else {}
        second = _places(after, new, loops[1]) if new is not None else {}
        lines = _aligned(old, new)
        for at, to in lines:
            change = _compare(first.get(at), second.get(to), _names(after, loops[1]))
            if change is not None:
                record.lines.append(change)
            elif at in first and to in second:
                record.same += 1
    _mark_what_follows(record.lines)
    record.facts = [row for row in _facts(before, after) if row[1] != row[2]]
    record.notes = _notes(before, after)
    return record


def _loops(record: ExplainRecord) -> dict[int, tuple[str, int]]:
    """Each loop's kind, and its number among its kind: the first training loop is the first one's peer."""
    counts: dict[str, int] = {}
    found = {}
    for number, loop in enumerate(record.loops):
        kind = {"gradients": "training", "forward": "evaluation"}.get(loop.kind, loop.kind)
        counts[kind] = counts.get(kind, 0) + 1
        found[number] = (kind, counts[kind])
    return found


def _names(record: ExplainRecord, loops: dict[int, tuple[str, int]]) -> dict[tuple[str, int], str]:
    return {key: record.loops[number].name for number, key in loops.items()}


def _pairs(
    before: ExplainRecord, after: ExplainRecord
) -> Iterator[tuple[FileNote | None, FileNote | None]]:
    """The two programs, and other files by their name."""
    if before.files and after.files:
        yield before.files[0], after.files[0]
    else:
        yield next(iter(before.files), None), next(iter(after.files), None)
    others = {PurePath(one.path).name: one for one in after.files[1:]}
    for one in before.files[1:]:
        yield one, others.pop(PurePath(one.path).name, None)
    for one in others.values():
        yield None, one


def _places(
    record: ExplainRecord, file: FileNote, loops: dict[int, tuple[str, int]]
) -> dict[int, Place]:
    """What ran in a file, by the first line of each statement."""
    number = next(at for at, one in enumerate(record.files) if one is file)
    text = file.text.splitlines()
    found: dict[int, Place] = {}

    def add(note: LineNote, key: tuple[str, int, int]) -> None:
        if note.file == number and 1 <= note.line <= len(text):
            shown = " ".join(one.strip() for one in text[note.line - 1 : note.end_line])
            place = found.setdefault(note.line, Place(note.line, shown, PurePath(file.path).name))
            place.notes[key] = note

    for note in record.setup:
        add(note, ("", 0, 0))
    for step in record.steps:
        for note in step.lines:
            add(note, (*loops[step.loop], step.number))
    return found


def _aligned(before: FileNote | None, after: FileNote | None) -> list[tuple[int, int]]:
    """Line numbers that belong together; 0 where the other program has none."""
    old = before.text.splitlines() if before is not None else []
    new = after.text.splitlines() if after is not None else []
    stripped = [one.strip() for one in old], [one.strip() for one in new]
    pairs: list[tuple[int, int]] = []
    for kind, a, b, c, d in SequenceMatcher(None, *stripped, autojunk=False).get_opcodes():
        if kind == "equal":
            pairs += zip(range(a + 1, b + 1), range(c + 1, d + 1), strict=True)
        else:
            pairs += _block(stripped[0][a:b], stripped[1][c:d], a, c)
    return pairs


def _block(old: list[str], new: list[str], first: int, second: int) -> list[tuple[int, int]]:
    """Lines of a changed block: those that are alike belong together, in order."""
    pairs: list[tuple[int, int]] = []
    at = 0
    for index, text in enumerate(old):
        match = next(
            (to for to in range(at, len(new))
             if SequenceMatcher(None, text, new[to], autojunk=False).ratio() > ALIKE),
            None,
        )  # fmt: skip
        if match is None:
            pairs.append((first + index + 1, 0))
            continue
        pairs += [(0, second + to + 1) for to in range(at, match)]
        pairs.append((first + index + 1, second + match + 1))
        at = match + 1
    return pairs + [(0, second + to + 1) for to in range(at, len(new))]


def _compare(
    old: Place | None, new: Place | None, names: dict[tuple[str, int], str]
) -> LineChange | None:
    """What is different of one statement; None where nothing is, or where nothing ran."""
    if old is None and new is None:
        return None
    one = new or old
    assert one is not None
    change = LineChange(
        "numbers", old.text if old else "", new.text if new else "", old.line if old else 0,
        new.line if new else 0, one.file,
    )  # fmt: skip
    if old is None or new is None:
        only = next((note for note in one.notes.values() if note.sentences), None)
        if only is None:
            return None
        change.change = "gone" if new is None else "new"
        told = list(only.sentences)
        change.before, change.after = (told, []) if new is None else ([], told)
        kinds = _kinds(only)
        change.events_before, change.events_after = (kinds, []) if new is None else ([], kinds)
        change.step = min(key[2] for key in one.notes)
        return change
    found = False
    for key in sorted(old.notes.keys() & new.notes.keys(), key=lambda key: key[2]):
        first, second = old.notes[key], new.notes[key]
        kind = _kind(first, second)
        if kind is None or (found and not (kind == "does" and change.change == "numbers")):
            continue
        found = True
        change.change = kind
        change.step = key[2]
        change.loop = names.get((key[0], key[1]), "") if key[0] else ""
        change.before, change.after = _only(first.sentences, second.sentences)
        change.events_before, change.events_after = _only(_kinds(first), _kinds(second))
    return change if found else None


def _kind(first: LineNote, second: LineNote) -> Literal["does", "numbers"] | None:
    """``does`` where other sentences or events stand, ``numbers`` where only numbers differ."""
    old, new = ([CLOCK.sub("", one) for one in note.sentences] for note in (first, second))
    if _kinds(first) != _kinds(second):
        return "does"
    if [_shape(one) for one in old] != [_shape(one) for one in new]:
        return "does"
    return "numbers" if old != new else None


def _shape(sentence: str) -> str:
    """A sentence without numbers and their units."""
    return UNIT.sub("#", without_numbers(sentence))


def _kinds(note: LineNote) -> list[str]:
    return list(dict.fromkeys(event.kind for event in note.events))


def _only(first: list[str], second: list[str]) -> tuple[list[str], list[str]]:
    """What stands in one of two lists, in their order."""
    return [one for one in first if one not in second], [one for one in second if one not in first]


def _mark_what_follows(lines: list[LineChange]) -> None:
    """In the first step that differs, everything is said; later, only what is done differently."""
    steps = [one.step for one in lines if one.step and one.change in ("does", "numbers")]
    first = min(steps, default=0)
    for one in lines:
        one.follows = one.change == "numbers" and one.step > first


def _facts(before: ExplainRecord, after: ExplainRecord) -> Iterator[list[str]]:
    """Numbers of the main loops side by side."""
    pairs = [dict(_numbers(one)) for one in (before, after)]
    for name in dict.fromkeys([*pairs[0], *pairs[1]]):
        yield [name, pairs[0].get(name, ""), pairs[1].get(name, "")]
    times = [timing_of(one, main_loop(one)) if one.loops else None for one in (before, after)]
    seconds = [one.seconds for one in times if one is not None and not one.recorded]
    if len(seconds) == 2 and max(seconds) > SLOWER * min(seconds):
        yield ["a step takes", *map(microtime, seconds)]


def _numbers(record: ExplainRecord) -> Iterator[tuple[str, str]]:
    recorded = steps_of(record, main_loop(record)) if record.steps else []
    for step in recorded:
        if step.losses:
            yield f"loss in step {step.number}", formats.number(step.losses[-1])
    for step in recorded[:1]:
        moved = [note for line in step.lines for note in line.effects.parameters]
        if moved:
            yield "‖Δp‖ of the first step", formats.number(moved[-1].delta)
        if step.kept_bytes:
            yield "kept for backward", formats.size(step.kept_bytes)
    for step in recorded[-1:]:
        state = [note.bytes for line in step.lines for note in line.effects.state]
        if state and max(state):
            yield "optimizer state", formats.size(max(state))
    if record.models:
        yield "parameters", formats.count(sum(one.parameters for one in record.models))


def _notes(before: ExplainRecord, after: ExplainRecord) -> list[str]:
    notes = []
    for one in (before, after):
        lines = [*one.setup, *(line for step in one.steps for line in step.lines)]
        seeds = any(
            event.kind in ("seed", "generator") and not event.facts.get("state")
            for line in lines
            for event in line.events
        )
        if not seeds and any(line.effects.rng or line.events for line in lines):
            notes.append(
                f"{one.title} seeds no generator: its numbers differ from run to run, with no change at all"
            )
        notes += [f"{one.title}: {note}" for note in one.notes]
    if not before.steps or not after.steps:
        notes.append("no step of a training was recorded in one of the two")
    return list(dict.fromkeys(notes))
