"""A step in one view: for each of the eight phases where it happened and what came of it, in a few words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loopwright.events import PHASES
from loopwright.events.explained import LineNote, StepNote
from loopwright.explainer.sentences.words import share_of
from loopwright.report.formats import count, number, size

MOST = 3
"""Things of one phase that are told."""


def brief(step: StepNote) -> list[list[str]]:
    """``[phase, "file:line,file:line", words]`` of each phase that the step had."""
    rows = []
    for phase in PHASES:
        lines = [line for line in step.lines if phase in line.phases]
        if not lines:
            continue
        words = list(
            dict.fromkeys(word for line in lines for word in _by_call(phase, line, step.lines))
        )
        more = [f"{len(words) - MOST} more"] if len(words) > MOST else []
        places = ",".join(f"{one.file}:{one.line}" for one in lines)
        rows.append([phase, places, "; ".join([*words[:MOST], *more])])
    return rows


def moving(line: LineNote, lines: list[LineNote]) -> list[LineNote]:
    """Statements that one called and that move parameters, as those of an optimizer's own ``step``."""
    found: list[LineNote] = []
    pending, seen = list(line.calls), set()
    while pending:
        at = pending.pop()
        if at not in seen and at < len(lines):
            seen.add(at)
            found += [lines[at]] if lines[at].effects.parameters else []
            pending += lines[at].calls
    return found


def _by_call(phase: str, line: LineNote, lines: list[LineNote]) -> Iterator[str]:
    """Of a function that several lines call, with the line of the call."""
    if not line.parts:
        yield from _words(phase, line, lines)
    for part in line.parts:
        number = part.called_from.partition(":")[2]
        if phase in part.phases:
            yield from (f"{word} (from line {number})" for word in _words(phase, part, lines))


def _words(phase: str, line: LineNote, lines: list[LineNote]) -> Iterator[str]:
    facts = [
        one.facts for one in line.events if one.kind == phase and not one.facts.get("criterion")
    ]
    facts = [one for one in facts if not one.get("ended")]
    effects = line.effects
    if phase == "fetch":
        yield from (", ".join("×".join(map(str, one["shape"])) or "scalar" for one in each.get("batch", []))
                    for each in facts[:1])  # fmt: skip
    elif phase == "transfer":
        copied = [one for one in facts if one.get("copied")]
        yield (
            f"{size(sum(one.get('bytes', 0) for one in copied))} copied"
            if copied
            else "nothing to copy"
        )
    elif phase == "zero_grad":
        yield from (_cleared(one) for one in facts)
        if not facts:
            yield from (f"{count(note.count)} × .grad cleared (norm {number(note.before)})"
                        for note in effects.grads if note.change in ("cleared", "zeroed"))  # fmt: skip
    elif phase == "forward":
        yield from (_forward(one) for one in facts)
    elif phase == "loss":
        yield from (
            f"{one.get('function', 'loss')} {number(one['value'])}"
            for one in facts
            if "value" in one
        )
    elif phase == "backward":
        yield from (f"{note.count} × .grad {note.change}, norm {number(note.after)}" for note in effects.grads
                    if note.change in ("written", "accumulated"))  # fmt: skip
        returned = [event.facts for event in line.events if event.kind == "grad"]
        yield from (
            f"gradients of {one['inputs']} tensors returned" for one in returned if "inputs" in one
        )
        freed = sum(one.get("freed_bytes", 0) for one in facts)
        if freed:
            yield f"{size(freed)} freed"
    elif phase == "step":
        yield from _moved(line, moving(line, lines) if not line.effects.parameters else [])
    elif phase == "item":
        yield from (number(one["value"]) for one in facts if "value" in one)


def _cleared(facts: dict[str, Any]) -> str:
    if not facts["had"]:
        return ".grad was None already"
    unused = ", unused" if facts.get("unused") and not facts.get("inside") else ""
    unused = "" if facts.get("partly") else unused
    return f"{count(facts['had'])} × .grad cleared (norm {number(facts['norm'])}{unused})"


def _forward(facts: dict[str, Any]) -> str:
    outputs = facts.get("outputs") or [{"shape": []}]
    made = "×".join(map(str, outputs[0]["shape"])) or "scalar"
    return f"{facts['name']} → {made}, {'train' if facts['training'] else 'eval'} mode"


def _moved(line: LineNote, inside: list[LineNote]) -> Iterator[str]:
    moves = [note for one in [line, *inside] for note in one.effects.parameters]
    for note in moves:
        share = f" ({share_of(note.delta, note.norm)} of ‖p‖)" if note.norm else ""
        yield f"‖Δp‖ {number(note.delta)}{share}"
    if not moves:
        yield "nothing moved"
    for state in line.effects.state:
        born = [key for key in state.born if key != "step"]
        if born:
            yield f"{', '.join(born)} born"
