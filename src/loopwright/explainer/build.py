"""From a recording to the plain record: visits of one statement in one turn become one line note."""

from __future__ import annotations

import ast
import platform
from dataclasses import replace
from typing import Any

import torch

from loopwright.events import PHASE_OF, PHASES
from loopwright.events.explained import (
    Effects,
    ExplainRecord,
    FileNote,
    GradNote,
    LineNote,
    LoopNote,
    ParameterNote,
    StateNote,
    StepNote,
)
from loopwright.explainer.effects import byhand, values
from loopwright.explainer.effects.saved import most
from loopwright.explainer.follow.callers import Callers
from loopwright.explainer.follow.turns import LoopRecord, Turn
from loopwright.explainer.record import Recording, Visit
from loopwright.explainer.times import timing

LOSSES_KEPT = 2000
MOVES = 32
"""Changes of parameters that are kept of one statement in one turn."""


def build(recording: Recording) -> ExplainRecord:
    """Everything that was recorded, without tensors."""
    record = ExplainRecord()
    loops = _shown_loops(recording)
    numbers = {id(one): number for number, one in enumerate(loops)}
    record.loops = [_loop(one, numbers, recording) for one in loops]
    _name(record.loops)
    for turn in recording.kept:
        if id(turn.record) in numbers:
            record.steps.append(_step(turn, numbers))
    record.setup = _lines([visit for visit in recording.setup if _says_something(visit)])
    record.losses = {str(numbers[id(one)]): one.losses[:LOSSES_KEPT] for one in loops if one.losses}
    record.timings = timing.measure(recording, numbers)
    record.files = [
        FileNote(one.path, one.text, [[s.line, s.end_line] for s in one.statements])
        for one in recording.sources
    ]
    record.models = recording.names.whole_models()
    record.optimizers = recording.names.optimizers
    record.environment = environment()
    record.notes = _notes(recording)
    record.stopped = recording.stopped
    record.rank = recording.rank
    return record


def environment() -> dict[str, Any]:
    """What the numbers were made with."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["device"] = torch.cuda.get_device_name()
    return found


def _notes(recording: Recording) -> list[str]:
    notes = list(recording.notes)
    if recording.memory.refused:
        notes.append(recording.memory.refused)
    if recording.observer.failure:
        last = recording.observer.failure.strip().splitlines()[-1]
        notes.append(f"the recording failed and switched itself off: {last}")
    return notes


def _shown_loops(recording: Recording) -> list[LoopRecord]:
    """Loops that hold events of a step, and plain ones around them; inner ones are part of their turn."""
    shown = [one for one in recording.loops.values() if one.eventful and not _is_part(one)]
    around = set()
    for loop in shown:
        outer = loop.inside
        while outer is not None:
            around.add(id(outer))
            outer = outer.inside
    return [
        one
        for one in recording.loops.values()
        if one in shown or (not one.eventful and id(one) in around)
    ]


def _is_part(loop: LoopRecord) -> bool:
    """A loop whose turns belong to a step of the loop around it: micro-batches, closures."""
    around = loop.inside
    while around is not None:
        if around.steps and not loop.steps:
            return True
        around = around.inside
    return False


def _loop(one: LoopRecord, numbers: dict[int, int], recording: Recording) -> LoopNote:
    around = one.inside
    while around is not None and id(around) not in numbers:
        around = around.inside
    file = recording.sources.index(one.source) if one.source in recording.sources else -1
    return LoopNote(
        "", one.kind, file,
        one.loop.line if one.loop else 0, one.loop.end_line if one.loop else 0,
        one.loop.function if one.loop else "", one.by_library, one.turns, one.entered,
        numbers[id(around)] if around is not None else None,
        list(dict.fromkeys(name for _, name in one.optimizers)),
        [at for at in one.passes if at < min(len(one.losses), LOSSES_KEPT)],
    )  # fmt: skip


def _name(loops: list[LoopNote]) -> None:
    """Names that tell loops apart: what each is for, where, and its line if that is not enough."""
    names = [_called(one) for one in loops]
    for note, name in zip(loops, names, strict=True):
        note.name = f"{name} at line {note.line}" if names.count(name) > 1 and note.line else name


def _called(note: LoopNote) -> str:
    where = f" in {note.function}()" if note.function else ""
    names = {"training": "training loop", "gradients": "loop of gradients", "evaluation": "evaluation loop",
             "forward": "loop of forward passes", "plain": "outer loop"}  # fmt: skip
    if note.line:
        return names[note.kind] + where
    if note.library:
        return f"the library's {names[note.kind] if note.kind != 'plain' else 'loop'}"
    return "the program's evaluation" if note.kind == "evaluation" else "the program"


def _says_something(visit: Visit) -> bool:
    effects = visit.effects
    return bool(
        visit.events or visit.tensors or visit.objects or effects.grads or effects.parameters or effects.rng
        or effects.restored or effects.seeds or effects.frozen or effects.learning
        or effects.to_eval or effects.to_train or effects.rates
    )  # fmt: skip


def _step(turn: Turn, numbers: dict[int, int]) -> StepNote:
    visits = _all_visits(turn, numbers)
    overhead = turn.overhead
    return StepNote(
        numbers[id(turn.record)],
        turn.number,
        max(0, turn.ended - turn.began - overhead) / 1e9,
        _of_inner(turn, "losses"),
        _lines(visits),
        _memory(visits),
        _of_inner(turn, "graphs"),
        *most(_of_inner(turn, "held")),
        _of_inner(turn, "rules"),
        whatifs=turn.whatifs,
        not_replayed=turn.not_replayed,
        left_out=turn.left_out,
    )


def _all_visits(turn: Turn, numbers: dict[int, int]) -> list[Visit]:
    found = list(turn.visits)
    for inner in turn.inner:
        if id(inner.record) not in numbers:
            found += _all_visits(inner, numbers)
    return sorted(found, key=lambda visit: visit.order)


def _of_inner(turn: Turn, name: str) -> list[Any]:
    """Of the turns inside, in their order, and its own after them."""
    found: list[Any] = []
    for inner in turn.inner:
        if not inner.record.eventful or _is_part(inner.record):
            found += _of_inner(inner, name)
    return found + list(getattr(turn, name))


def _lines(visits: list[Visit]) -> list[LineNote]:
    """One note a statement, in the order of first runs."""
    groups: dict[int, list[Visit]] = {}
    for visit in visits:
        groups.setdefault(id(visit.statement), []).append(visit)
    index = {key: number for number, key in enumerate(groups)}
    callers = Callers(visits)
    notes = []
    for group in groups.values():
        note = _note(group, index)
        several = callers.apart(group)
        note.parts = [_note(one, index) for one in several.values()]
        for part, place in zip(note.parts, several, strict=True):
            part.called_from = place
        notes.append(note)
    return notes


def _note(group: list[Visit], index: dict[int, int]) -> LineNote:
    """Of runs of one statement; ``index`` has the number of each statement's note."""
    first = group[0].statement
    events = [event for visit in group for event in visit.events]
    phases = [PHASE_OF.get(event.kind) for event in events
              if not event.facts.get("ended") and not event.facts.get("criterion")]  # fmt: skip
    phases += [phase for visit in group for phase in byhand.phases(visit)]
    called = {index[id(one.statement)] for visit in group for one in visit.calls
              if id(one.statement) in index}  # fmt: skip
    return LineNote(
        first.source.number,
        first.line,
        first.end_line,
        _runs(group),
        sum(visit.total for visit in group) / 1e9,
        sum(visit.own for visit in group) / 1e9,
        sorted(called - {index[id(first)]}),
        group[-1].grad_mode,
        events[:64],
        _merge([visit.effects for visit in group]),
        _latest([note for visit in group for note in visit.tensors]),
        [facts for visit in group for facts in visit.objects][:8],
        max(visit.further for visit in group),
        [phase for phase in PHASES if phase in phases],
    )


def _runs(group: list[Visit]) -> int:
    """How often a statement ran; a ``with`` comes by once more when it ends."""
    ends = isinstance(group[0].statement.node, (ast.With, ast.AsyncWith))
    return -(-len(group) // 2) if ends else len(group)


def _latest(notes: list[Any]) -> list[Any]:
    return list({note.name: note for note in notes}.values())


def _merge(parts: list[Effects]) -> Effects:
    if len(parts) == 1 and len(parts[0].grads) <= 1:
        return parts[0]
    merged = Effects()
    for one in parts:
        merged.to_train += one.to_train
        merged.to_eval += one.to_eval
        merged.nodes += one.nodes
        merged.made += one.made
        merged.made_bytes += one.made_bytes
        merged.freed += one.freed
        merged.freed_bytes += one.freed_bytes
        merged.rates += one.rates
        for into, names in ((merged.rng, one.rng), (merged.seeded, one.seeded),
                            (merged.restored, one.restored)):  # fmt: skip
            into += [name for name in names if name not in into]
        merged.seeds |= one.seeds
        for sums, more in ((merged.frozen, one.frozen), (merged.learning, one.learning)):
            sums[:] = [a + b for a, b in zip(sums or [0, 0], more, strict=True)] if more else sums
        for name, delta in one.buffers.items():
            merged.buffers[name] = values.together([merged.buffers.get(name, 0.0), delta])
    merged.grads = _merge_grads([note for one in parts for note in one.grads])
    merged.parameters = _merge_moves([note for one in parts for note in one.parameters])[:MOVES]
    merged.state = _merge_state([note for one in parts for note in one.state])
    return merged


def _merge_moves(notes: list[ParameterNote]) -> list[ParameterNote]:
    """Parameters that moved one after another, each once, are one move of all of them."""
    found: list[ParameterNote] = []
    names: set[str] = set()
    for note in notes:
        last = found[-1] if found else None
        alone = note.count == 1 and note.largest and note.exact
        lone = last is not None and last.of == len(names)  # leaves that belong to nothing
        alike = last is not None and note.of == (1 if lone and last.of != note.of else last.of)
        if last is None or not alone or not names or note.largest in names or not alike:
            found.append(note)
            names = {note.largest} if alone else set()
            continue
        names.add(note.largest)
        far = note if note.largest_delta > last.largest_delta else last
        found[-1] = ParameterNote(
            len(names), max(note.of, len(names)), values.together([last.delta, note.delta]),
            values.together([last.norm, note.norm]), far.largest, far.largest_delta,
            last.numbers + note.numbers, by=note.by,
        )  # fmt: skip
    return found


def _merge_grads(notes: list[GradNote]) -> list[GradNote]:
    """One note a kind of change: parts of one pass are added, passes one after another joined end to end."""
    found: dict[tuple[str, bool, bool], GradNote] = {}
    for note in notes:
        key = (note.change, note.before is None, note.of == 1)
        known = found.get(key)
        if known is None:
            found[key] = replace(note)  # the part that it is of keeps its own numbers
            continue
        others = not set(known.names) & set(note.names)
        if others and note.of == 1:  # leaves that belong to nothing, one after the other
            known.of += 1
        if others and known.count + note.count <= known.of:
            known.count += note.count
            known.numbers += note.numbers
            known.names = (known.names + note.names)[:3]
            known.before = _add(known.before, note.before)
            known.after = _add(known.after, note.after)
            known.values = []
        else:
            known.count = max(known.count, note.count)
            known.after = note.after
    return list(found.values())


def _add(first: float | None, second: float | None) -> float | None:
    known = [one for one in (first, second) if one is not None]
    return values.together(known) if known else None


def _merge_state(notes: list[StateNote]) -> list[StateNote]:
    found: dict[str, StateNote] = {}
    for note in notes:
        known = found.get(note.optimizer)
        if known is None:
            found[note.optimizer] = replace(note)
        else:
            known.bytes = note.bytes
            known.born = {**note.born, **known.born}
            known.changed = note.changed
    return list(found.values())


def _memory(visits: list[Visit]) -> list[list[int]]:
    """Bytes allocated since the step began, after each allocation, by line note."""
    groups: dict[int, int] = {}
    for visit in visits:
        groups.setdefault(id(visit.statement), len(groups))
    changes = sorted(
        (when, size, groups[id(visit.statement)])
        for visit in visits
        for size, when in visit.allocations
    )
    total, points, first = 0, [], changes[0][0] if changes else 0
    for when, size, number in changes:
        total += size
        points.append([number, total, when - first])
    return _thin(points)


def _thin(points: list[list[int]], most: int = 600) -> list[list[int]]:
    """At most ``most`` points, the highest of each stretch kept."""
    if len(points) <= most:
        return points
    size = -(-len(points) // most)
    return [
        max(points[at : at + size], key=lambda one: one[1]) for at in range(0, len(points), size)
    ]
