"""What the page and the terminal show of an explanation: source lines with the notes that belong to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from loopwright.events.explained import (
    ExplainRecord,
    FileNote,
    LineNote,
    SeldomNote,
    StepNote,
    TimingNote,
)

AROUND = 2
"""Lines around one that ran which are shown too."""
SETUP = -1


@dataclass(slots=True)
class Note:
    """A line note in the turn that it belongs to; ``loop`` is ``SETUP`` outside of loops."""

    loop: int
    number: int
    line: LineNote


@dataclass(slots=True)
class Row:
    """One line of source."""

    number: int
    text: str
    notes: list[Note] = field(default_factory=list)
    """Of the statement that ends on this line."""
    begins: bool = False
    seconds: float | None = None
    share: float | None = None
    phases: list[str] = field(default_factory=list)
    shown: bool = False
    loop: int | None = None
    """The loop whose head this is."""


@dataclass(slots=True)
class FileView:
    """A file, and which of its lines are worth showing."""

    number: int
    file: FileNote
    rows: list[Row]

    def stretches(self) -> list[list[Row]]:
        """Runs of lines that are shown."""
        found: list[list[Row]] = []
        for row in self.rows:
            if not row.shown:
                continue
            if found and found[-1][-1].number == row.number - 1:
                found[-1].append(row)
            else:
                found.append([row])
        return found


def views(record: ExplainRecord) -> list[FileView]:
    """Every file of the program that ran, with its notes at their lines."""
    made = []
    for number, file in enumerate(record.files):
        rows = [Row(at, text) for at, text in enumerate(file.text.splitlines(), start=1)]
        made.append(FileView(number, file, rows))
    for note in notes(record):
        if note.line.file >= len(made):
            continue
        rows = made[note.line.file].rows
        last = min(note.line.end_line, len(rows))
        if not 1 <= note.line.line <= last:
            continue
        rows[note.line.line - 1].begins = True
        rows[last - 1].notes.append(note)
        head = rows[note.line.line - 1]
        head.phases += [one for one in note.line.phases if one not in head.phases]
    for view in made:
        _times(record, view)
        _show(view)
        for number, loop in enumerate(record.loops):
            if loop.file == view.number and 1 <= loop.line <= len(view.rows):
                head = view.rows[loop.line - 1]
                head.loop = number if head.loop is None else head.loop
    return [view for view in made if _worth(record, view)]


def _worth(record: ExplainRecord, view: FileView) -> bool:
    """The program itself, and files in which something of a step happened; no library of loading."""
    noted = [note for row in view.rows for note in row.notes]
    steps = any(
        note.loop != SETUP and (record.loops[note.loop].line or note.number > 1) for note in noted
    )
    return (
        steps
        or (view.number == 0 and bool(noted))
        or any(phase != "transfer" for row in view.rows for phase in row.phases)
    )


def notes(record: ExplainRecord) -> list[Note]:
    """All line notes of a record, those of the main loop before those of others."""
    found = [Note(SETUP, 0, line) for line in record.setup]
    main = main_loop(record)
    for step in sorted(record.steps, key=lambda one: one.loop != main):
        found += [Note(step.loop, step.number, line) for line in step.lines]
    return found


def _times(record: ExplainRecord, view: FileView) -> None:
    main = main_loop(record)
    for timing in sorted(record.timings, key=lambda one: one.loop != main):
        apart = [(place, took, 0.0) for one in timing.seldom for place, took in one.lines.items()]
        each = [(place, took, timing.seconds) for place, took in timing.lines.items()]
        for place, seconds, of in [*each, *apart]:
            file, _, line = place.partition(":")
            if int(file) == view.number and 1 <= int(line) <= len(view.rows):
                row = view.rows[int(line) - 1]
                if row.seconds is None:
                    row.seconds = seconds
                    row.share = min(1.0, seconds / of) if of else None


def _show(view: FileView) -> None:
    for row in view.rows:
        if row.notes or row.begins or row.phases or row.loop is not None:
            for near in view.rows[max(0, row.number - 1 - AROUND) : row.number + AROUND]:
                near.shown = True
    rows = view.rows
    for before, row, after in zip(rows, rows[1:], rows[2:], strict=False):
        row.shown = row.shown or (before.shown and after.shown)


def main_loop(record: ExplainRecord) -> int:
    """The loop that a reader wants to see first: the first one of the program's own that trains."""
    for own in (True, False):
        for kind in ("training", "gradients", "evaluation", "forward"):
            for number, loop in enumerate(record.loops):
                recorded = any(step.loop == number for step in record.steps)
                if loop.kind == kind and recorded and bool(loop.line) is own:
                    return number
    return 0


def steps_of(record: ExplainRecord, loop: int) -> list[StepNote]:
    """The recorded turns of a loop."""
    return [step for step in record.steps if step.loop == loop]


def default_step(recorded: list[StepNote]) -> StepNote | None:
    """The second one that steps most: something is there to be cleared, accumulated, remembered."""
    lines = [sum("step" in line.phases for line in one.lines) for one in recorded]
    stepping = [one for one, steps in zip(recorded, lines, strict=True) if steps == max(lines)]
    return stepping[min(1, len(stepping) - 1)] if stepping else None


def timing_of(record: ExplainRecord, loop: int) -> TimingNote | None:
    """Where a turn of a loop goes."""
    return next((one for one in record.timings if one.loop == loop), None)


def timed_apart(record: ExplainRecord, loop: int) -> str:
    """Words on loops inside that have a timing of their own, which the loop's leaves out."""
    lines = [str(one.line) for number, one in enumerate(record.loops)
             if one.inside == loop and one.line and timing_of(record, number) is not None]  # fmt: skip
    loops = f"the loop{'s' if len(lines) > 1 else ''} at line {' and '.join(lines)}"
    return f", without {loops}" if lines else ""


def now_and_then(timing: TimingNote, seldom: SeldomNote) -> str:
    """How often it happens, and what it consists of."""
    parts = sorted(seldom.phases.items(), key=lambda one: -one[1])
    shown = ", ".join(f"{name} {microtime(one)}" for name, one in parts[:3])
    return (
        f"in {seldom.turns} of {timing.turns} steps, beside what a step does"
        f"{f': {shown}' if len(parts) > 1 else ''}"
    )


def longest_line(seldom: SeldomNote) -> str:
    """``"file:line"`` of the line that takes most of it."""
    return max(seldom.lines, key=seldom.lines.__getitem__, default="")


def without_numbers(text: str) -> str:
    """A sentence with its numbers taken out: two that are alike differ in their numbers only."""
    return re.sub(r"-?∞|NaN|-?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", text)


def microtime(seconds: float) -> str:
    """A short time in the unit that fits."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
