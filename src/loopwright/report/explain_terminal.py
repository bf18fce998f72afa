"""An explanation in the terminal: the source with a gutter, what each line did, and the step in one view."""

from __future__ import annotations

import re
import textwrap

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loopwright.events import Finding
from loopwright.events.explained import ExplainRecord, StepNote, TimingNote
from loopwright.report import formats
from loopwright.report.explain_view import (
    SETUP,
    FileView,
    Note,
    Row,
    default_step,
    longest_line,
    main_loop,
    microtime,
    now_and_then,
    steps_of,
    timed_apart,
    timing_of,
    views,
    without_numbers,
)
from loopwright.report.source import shown_path
from loopwright.report.terminal import _clean, to_text

output_file_extension = ".txt"

WIDTH = 100
COLOURS = {
    "fetch": "bright_black", "transfer": "cyan", "zero_grad": "green", "forward": "blue",
    "loss": "bright_blue", "backward": "magenta", "step": "bright_magenta", "item": "yellow",
}  # fmt: skip
BADGE, TIME = 9, 8
MODELS = 3
"""That are named in the head."""


def render(record: ExplainRecord, *, width: int = WIDTH, step: int | None = None) -> str:
    """The whole explanation as plain text, at most ``width`` columns wide."""
    return to_text(explanation(record, width=width, step=step), width=width)


def explanation(
    record: ExplainRecord, *, width: int = WIDTH, step: int | None = None
) -> RenderableType:
    """The annotated source, the step in one view, the update of one weight, where the time goes.

    Args:
        record: what was recorded and narrated.
        width: columns, at most.
        step: the recorded step to show; by default the first, and the second where it differs in kind.
    """
    parts: list[RenderableType] = [_head(record), Text()]
    for view in views(record):
        parts += _file(record, view, width, step)
    loop = main_loop(record)
    recorded = steps_of(record, loop)
    if recorded:
        parts += _in_one_view(record, loop, step, width)
    parts += [_wrapped(f"note: {note}", width, "yellow") for note in record.notes]
    return Group(*parts)


def _head(record: ExplainRecord) -> Text:
    recorded = len(steps_of(record, main_loop(record))) if record.steps else 0
    text = Text.assemble((_clean(record.title or "explanation"), "bold"))
    loops = [loop for loop in record.loops if loop.kind != "plain"]
    facts = [f"{len(loops)} loop{'s' if len(loops) != 1 else ''}", f"{recorded} steps recorded"]
    facts += [
        f"{one.name}: {formats.large(one.parameters)} parameters" for one in record.models[:MODELS]
    ]
    if len(record.models) > MODELS:
        facts.append(f"{len(record.models) - MODELS} more")
    text.append("  " + _clean(", ".join(facts)), "dim")
    return text


def _file(
    record: ExplainRecord, view: FileView, width: int, step: int | None
) -> list[RenderableType]:
    digits = len(str(len(view.rows)))
    parts: list[RenderableType] = []
    if len(record.files) > 1:
        parts.append(Text(_clean(shown_path(view.file.path)), style="bold underline"))
    findings = [one for one in record.findings if one.place.file == view.file.path]
    badges: list[str] = []
    for number, stretch in enumerate(view.stretches()):
        if number:
            parts.append(Text(" " * (_gutter(digits) + 1) + "⋮", style="dim"))
        for row in stretch:
            badges += row.phases
            parts.append(_source(row, _next(badges), digits, width))
            told: list[Text] = []
            room = width - _gutter(digits) - 6
            for note, label in _chosen(record, row.notes, step):
                told += _sentences(note.line.sentences, label, room)
                for rank, words in note.line.ranks.items():
                    told += _sentences(words, f"{label}rank {rank}: ", room)
            for finding in findings:
                if finding.place.line == row.number:
                    told += _finding(finding, room)
            if row.notes or told:  # the statement ends here; until then its lines have the gutter
                parts += _below(badges, told, digits)
    parts.append(Text())
    return parts


def _source(row: Row, badge: str, digits: int, width: int) -> Text:
    took = microtime(row.seconds) if row.seconds is not None else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{badge:<{BADGE}}", COLOURS.get(badge, ""))
    text.append(f"{took:>{TIME}} ", "dim")
    text.append(f"{row.number:>{digits}} │ ", "dim")
    code = _clean(row.text.expandtabs(4))
    room = width - cell_len(text.plain)
    if cell_len(code) > room:
        code = code[: room - 1] + "…"
    text.append(code, "bold" if row.begins else "dim")
    return text


def _gutter(digits: int) -> int:
    """Columns to the left of the rule."""
    return BADGE + TIME + 2 + digits


def _next(badges: list[str]) -> str:
    """The first one, which is then done with."""
    return badges.pop(0) if badges else ""


def _below(badges: list[str], told: list[Text], digits: int) -> list[RenderableType]:
    """What stands under a statement; in the gutter beside it the badges that are left of it."""
    lines: list[RenderableType] = []
    for index in range(max(len(told), len(badges))):
        badge = _next(badges)
        text = Text(no_wrap=True)
        text.append(f"{badge:<{BADGE}}", COLOURS.get(badge, ""))
        text.append(" " * (_gutter(digits) - BADGE) + "│   ", "dim")
        lines.append(text.append_text(told[index]) if index < len(told) else text)
    return lines


def _chosen(record: ExplainRecord, notes: list[Note], step: int | None) -> list[tuple[Note, str]]:
    """Of each loop the first note, and the next where it says something of another kind."""
    loops: dict[int, list[Note]] = {}
    for note in notes:
        loops.setdefault(note.loop, []).append(note)
    chosen: list[tuple[Note, str]] = []
    first = next((loop for loop in loops if loop != SETUP), SETUP)
    for loop, several in loops.items():
        whose = f"{record.loops[loop].name}: " if loop not in (SETUP, first) else ""
        if step is not None and loop != SETUP:
            found = [one for one in several if one.number == step] or several[:1]
            chosen.append((found[0], whose))
            continue
        chosen.append((several[0], whose))
        kind = _kind(several[0])
        for other in several[1:]:
            if _kind(other) != kind:
                chosen.append((other, f"{whose}step {other.number}: "))
                break
    with_words = [one for one in chosen if one[0].line.sentences or one[0].line.ranks]
    return with_words[:4]


def _kind(note: Note) -> str:
    return without_numbers(" ".join(note.line.sentences))


def _sentences(told: list[str], label: str, room: int) -> list[Text]:
    found: list[Text] = []
    for sentence in told:
        words = _clean(label + sentence.replace("**", ""))
        label = ""
        for index, line in enumerate(_wrapped_code(words, room)):
            text = Text.assemble(("↳ " if index == 0 else "  ", "dim"))
            found.append(text.append_text(line))
    return found


def _wrapped_code(words: str, room: int) -> list[Text]:
    """Lines in which words in backticks have another colour; the backticks are gone, and take no room."""
    parts = re.sub(r"[\t\n\r\f\v]", " ", words).split("`")
    left = [(one, index % 2 == 1) for index, part in enumerate(parts) for one in part]
    lines = []
    for line in textwrap.wrap("".join(parts), room):
        text, at = Text(), 0
        while at < len(line):
            one, code = left.pop(0)
            if one == line[at]:  # else a space where the line was broken
                text.append(one, "cyan" if code else "")
                at += 1
        lines.append(text)
    return lines


def _finding(finding: Finding, room: int) -> list[Text]:
    style = {"error": "bold red", "warning": "yellow", "hint": "cyan"}[finding.severity]
    words = f"{finding.severity}[{finding.rule}]: {finding.message}"
    lines = textwrap.wrap(_clean(words), room)
    if finding.fix:
        lines += textwrap.wrap(_clean(f"write: {finding.fix}"), room)
    return [
        Text.assemble(("! " if i == 0 else "  ", style), (line, style))
        for i, line in enumerate(lines)
    ]


def _in_one_view(
    record: ExplainRecord, loop: int, step: int | None, width: int
) -> list[RenderableType]:
    recorded = steps_of(record, loop)
    chosen = next((one for one in recorded if one.number == step), default_step(recorded))
    if chosen is None:
        return []
    timing = timing_of(record, loop)
    parts: list[RenderableType] = [
        Text.assemble(
            ("Your step in one view", "bold"),
            (f"  {record.loops[loop].name}, step {chosen.number}", "dim"),
        )
    ]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False, width=width)
    table.add_column("phase", no_wrap=True)
    table.add_column("line", justify="right", no_wrap=True)
    table.add_column("what it did", ratio=1)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for phase, places, words in chosen.brief:
        lines = ", ".join(dict.fromkeys(place.partition(":")[2] for place in places.split(",")))
        seconds, share = _phase(timing, phase)
        table.add_row(
            Text(phase, COLOURS.get(phase, "")), lines, Text(_clean(words)), seconds, share
        )
    if timing is not None:
        seconds, share = _phase(timing, "own Python")
        if seconds:
            table.add_row(
                Text("own Python", "dim"),
                "",
                Text("everything else in the loop's body", "dim"),
                seconds,
                share,
            )
        table.add_row(
            Text("a step", "bold"),
            "",
            Text(_how_timed(timing) + timed_apart(record, loop), "dim"),
            microtime(timing.seconds),
            "",
        )
        for seldom in timing.seldom:
            table.add_row(
                Text("now and then", "dim"),
                longest_line(seldom).partition(":")[2],
                Text(now_and_then(timing, seldom), "dim"),
                microtime(seldom.seconds),
                "",
            )
    parts.append(table)
    if chosen.ranks:
        losses = ", ".join(
            f"rank {rank} {formats.number(found[-1])}"
            for rank, found in chosen.ranks.items()
            if found
        )
        parts += [Text(), _wrapped(f"Loss of each rank: {losses}.", width, "")]
    parts += _rules(chosen.rules, width)
    asked = [one for one in steps_of(record, chosen.loop) if one.whatifs or one.not_replayed]
    parts += _whatifs(asked[-1] if asked and not chosen.whatifs else chosen, chosen, width)
    parts += _device(timing, width)
    parts += _advice(timing, width)
    return [*parts, Text()]


def _phase(timing: TimingNote | None, phase: str) -> tuple[str, str]:
    if timing is None or phase not in timing.phases:
        return "", ""
    seconds = timing.phases[phase]
    return microtime(seconds), formats.percent(
        seconds / timing.seconds, 0
    ) if timing.seconds else ""


def _device(timing: TimingNote | None, width: int) -> list[RenderableType]:
    """Where a GPU is used: what it does in each phase, and what waiting for it costs."""
    if timing is None or not timing.device:
        return []
    phases = ", ".join(f"{name} {microtime(took)}" for name, took in timing.device.items())
    parts: list[RenderableType] = [Text(), _wrapped(f"On the device: {phases}.", width, "")]
    for name, (waited, copied) in timing.waits.items():
        words = (
            f"{name} waits {microtime(waited)} for the device and copies for {microtime(copied)}."
        )
        parts.append(_wrapped(words, width, ""))
    return parts


def _how_timed(timing: TimingNote) -> str:
    if timing.recorded:
        return "timed while it was recorded, which takes longer"
    return f"the medians of {timing.turns} further steps"


def _rules(rules: list, width: int) -> list[RenderableType]:  # type: ignore[type-arg]
    parts: list[RenderableType] = []
    for rule in rules[:2]:
        index = ", ".join(map(str, rule.index))
        head = f"One weight: {rule.name}[{index}] ({rule.optimizer})"
        parts += [Text(), Text(_clean(head), "bold")]
        wide = max(len(one) for one in rule.symbols)
        for symbols, numbers in zip(rule.symbols, rule.steps, strict=True):
            text = Text.assemble(("  " + symbols.ljust(wide + 3), "dim"), numbers)
            parts.append(text if cell_len(text.plain) <= width else Text("  " + numbers))
        agree = (
            "the same as torch's, to rounding"
            if rule.agrees
            else f"NOT torch's: {rule.computed!r} against {rule.after!r}"
        )
        parts.append(Text(f"  computed from the rule: {agree}", "dim"))
    return parts


def _whatifs(step: StepNote, shown_step: StepNote, width: int) -> list[RenderableType]:
    if not step.whatifs:
        if step.not_replayed:
            return [Text(), _wrapped(f"No what-ifs: {step.not_replayed}", width, "dim")]
        return []
    which = "this step" if step is shown_step else f"step {step.number}"
    parts: list[RenderableType] = [
        Text(),
        Text.assemble(("What if", "bold"), (f"  {which} again on copies", "dim")),
    ]
    shown = [f"  {one.name}: {one.title[:1].lower()}{one.title[1:]}" for one in step.whatifs]
    left_out = [_wrapped(f"  not asked: {one}", width, "dim") for one in step.left_out]
    return [*parts, *(_wrapped(one, width, "") for one in shown), *left_out]


def _advice(timing: TimingNote | None, width: int) -> list[RenderableType]:
    if timing is None or not timing.advice:
        return []
    parts: list[RenderableType] = [Text(), Text("What would make it faster", "bold")]
    for one in timing.advice:
        where = f", line {one.line}" if one.line else ""
        words = f"  −{formats.percent(one.gain, 0)} ({one.how}{where}): {one.title}. {one.detail}"
        parts.append(_wrapped(words, width, ""))
        if one.code:
            parts.append(_wrapped(f"      {one.code}", width, "cyan"))
    return parts


def _wrapped(words: str, width: int, style: str) -> Text:
    indent = " " * (len(words) - len(words.lstrip()))
    lines = textwrap.wrap(_clean(words), width, subsequent_indent=indent + "  ")
    return Text("\n".join(lines), style=style)
