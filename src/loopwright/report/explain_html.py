"""The page about one program: its source, and under each line what it did, step by step.

What depends on the step is in the page for every recorded step, marked ``data-at="LOOP:STEP"``; the
script shows one of them. Without the script the page reads as of one step.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from loopwright.events import PHASES, Series
from loopwright.events.explained import (
    ExplainRecord,
    GraphNote,
    LineNote,
    ModelNote,
    StepNote,
    TensorNote,
    TimingNote,
)
from loopwright.report import explain_drawings, formats
from loopwright.report.explain_code import highlighted
from loopwright.report.explain_view import (
    SETUP,
    FileView,
    Note,
    default_step,
    longest_line,
    main_loop,
    microtime,
    now_and_then,
    steps_of,
    timed_apart,
    timing_of,
    views,
)
from loopwright.report.html import page, shell
from loopwright.report.source import shown_path
from loopwright.report.svg import legend, line_chart

output_file_extension = ".html"
DRAWN = 4
"""Graphs of one step that are drawn."""

COLOURS = {name: number for number, name in enumerate(PHASES)}


def render(record: ExplainRecord) -> str:
    """The explanation of one program as a self-contained HTML page."""
    loop = main_loop(record)
    recorded = steps_of(record, loop)
    shown = default_step(recorded)
    files = views(record)
    return page(
        "explain.html.jinja",
        script="explain.js",
        styles=("report.css", "explain.css"),
        data=data(record, loop, shown),
        title=f"{record.title} explained",
        record=record,
        loop_number=loop,
        first_at=lambda note: _shown_at_first(record, note, loop, shown),
        step=shown,
        recorded=recorded,
        optimizers=optimizers(record)[:3],
        at=at,
        breakable=breakable,
        says=says,
        colour=COLOURS.get,
        readouts=readouts(record, recorded, shown),
        files=[file(record, view) for view in files],
        loops=loops(record),
        cards=[(one, cards(one, timing_of(record, loop))) for one in recorded],
        timing=timing(record, loop),
        rules=[(one, one.rules[:3]) for one in recorded if one.rules],
        whatifs=[(one, one.whatifs) for one in recorded if one.whatifs],
        not_replayed=next((one.not_replayed for one in recorded if one.not_replayed), ""),
        memory=[
            (one, Markup(explain_drawings.memory(one, record)))  # noqa: S704  escaped there
            for one in recorded
            if one.memory
        ],
        stock=stock(record, recorded),
        graphs=[(one, graph, times) for one in recorded for graph, times in unlike(one)],
        losses=losses(record, loop),
        command=shell(["loopwright", "explain", *map(str, record.program.command)]),
        microtime=microtime,
    )


def optimizers(record: ExplainRecord) -> list[str]:
    """Name, class and learning rate of each; those that say the same are said once."""
    told = [
        f"{one['name']}: {one['kind']}, lr {formats.number(one['settings'].get('lr', 0.0))}"
        for one in record.optimizers
    ]
    return list(dict.fromkeys(told))


def at(loop: int, number: int) -> str:
    """The mark of what belongs to one step of one loop."""
    return f"{loop}:{number}"


def _shown_at_first(
    record: ExplainRecord, note: dict[str, Any], loop: int, shown: StepNote | None
) -> bool:
    """Whether a variant of a note is what the page shows before anybody moves the slider."""
    if note["loop"] == SETUP:
        return True
    if note["loop"] == loop and shown is not None:
        return at(loop, shown.number) in note["at"]
    first = default_step(steps_of(record, note["loop"]))
    return first is not None and at(note["loop"], first.number) in note["at"]


def breakable(name: str) -> Markup:
    """A file's name that a narrow page breaks between its words."""
    return Markup(re.sub(r"([_.-]+)", r"\1<wbr>", str(escape(name))))  # noqa: S704  escaped here


def says(sentence: str) -> Markup:
    """A sentence as HTML: backticks are code, two asterisks are weight."""
    text = str(escape(sentence))
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text))  # noqa: S704  escaped above


def data(record: ExplainRecord, loop: int, shown: StepNote | None) -> dict[str, Any]:
    """What the script reads: loops and steps, tensors by step, graphs."""
    tensors: dict[str, list[Any]] = {}
    for step in record.steps:
        rows = tensors.setdefault(at(step.loop, step.number), [])
        for line in step.lines:
            rows += [[line.file, line.end_line, tensor(note)] for note in line.tensors]
    rows = tensors.setdefault(at(SETUP, 0), [])
    for line in record.setup:
        rows += [[line.file, line.end_line, tensor(note)] for note in line.tensors]
    return {
        "loops": [
            {
                "name": one.name,
                "steps": [step.number for step in steps_of(record, number)],
                "first": getattr(default_step(steps_of(record, number)), "number", 0),
            }
            for number, one in enumerate(record.loops)
        ],
        "loop": loop,
        "step": shown.number if shown else 0,
        "tensors": tensors,
        "graphs": [
            graph(record, one) for step in steps_of(record, loop) for one, _ in unlike(step)
        ],
    }


def tensor(note: TensorNote) -> dict[str, Any]:
    """A tensor for the inspector, short keys and only what is there."""
    plain = {key: value for key, value in asdict(note).items() if value not in (None, [], "", 0)}
    plain["shape"] = "×".join(map(str, note.shape)) or "scalar"
    for key in ("norm", "low", "high", "mean", "std", "grad"):
        if plain.get(key) is not None:
            plain[key] = formats.number(plain[key])
    plain["bytes"] = formats.size(note.bytes)
    if note.values:
        plain["values"] = ", ".join(formats.number(one) for one in note.values)
    plain["numbers"] = formats.count(max(1, _product(note.shape)))
    return plain


def _product(sizes: list[int]) -> int:
    total = 1
    for one in sizes:
        total *= one
    return total


def unlike(step: StepNote) -> list[tuple[GraphNote, int]]:
    """Graphs of a step that differ in more than the loss, and how often it had each; four are drawn.

    Micro-batches, and a closure that is called several times, build the same graph again.
    """
    found: list[tuple[GraphNote, GraphNote, int]] = []
    for one in step.graphs:
        shape = replace(one, value=None)
        at = next((at for at, (known, _, _) in enumerate(found) if known == shape), None)
        if at is None:
            found.append((shape, one, 1))
        else:
            found[at] = (*found[at][:2], found[at][2] + 1)
    return [(one, times) for _, one, times in found[:DRAWN]]


def graph(record: ExplainRecord, note: Any) -> dict[str, Any]:
    """A graph for the drawing: groups as a tree, nodes in forward order, jumps."""
    places = [_place(record, one) for one in note.places]
    jumps = [edge for edge in note.edges if abs(edge[0] - edge[1]) > 1]
    return {
        "groups": [
            [one.path, one.kind, one.parent, one.nodes, formats.size(one.bytes), one.bytes]
            for one in note.groups
        ],
        "names": note.names,
        "name": note.node_name,
        "group": note.node_group,
        "line": note.node_line,
        "places": places,
        "bytes": note.node_bytes,
        "jumps": jumps[:20_000],
    }


def _place(record: ExplainRecord, place: str) -> str:
    file, _, line = place.partition(":")
    if not line:
        return ""
    name = shown_path(record.files[int(file)].path) if len(record.files) > 1 else "line"
    return f"{name}:{line}" if len(record.files) > 1 else f"line {line}"


def readouts(
    record: ExplainRecord, recorded: list[StepNote], shown: StepNote | None
) -> list[tuple[str, str, str]]:
    """The numbers at the head of the page: label, value, remark."""
    found: list[tuple[str, str, str]] = []
    values = formats.column("loss", [step.losses[-1] for step in recorded if step.losses])
    if values:
        found.append(("loss", " → ".join([values[0], values[-1]]) if len(values) > 1 else values[0],
                      f"steps {recorded[0].number} to {recorded[-1].number}"))  # fmt: skip
    if record.models:
        found.append(_models(record.models))
    if shown is not None:
        moved = [note for line in shown.lines for note in line.effects.parameters]
        if moved:
            share = formats.percent(moved[-1].delta / moved[-1].norm, 2) if moved[-1].norm else ""
            found.append(
                (
                    "moved by ‖Δp‖",
                    formats.number(moved[-1].delta),
                    f"{share} of ‖p‖, step {shown.number}",
                )
            )
        if shown.kept_bytes:
            by = f"by {formats.count(shown.graphs[0].nodes)} nodes"
            if len(shown.graphs) > 1:
                by = f"the most at one time, of {formats.count(len(shown.graphs))} graphs"
            found.append(("kept for backward", formats.size(shown.kept_bytes), by))
    timed = timing_of(record, main_loop(record)) if record.loops else None
    if timed is not None:
        found.append(
            (
                "a step",
                microtime(timed.seconds),
                "while recorded" if timed.recorded else f"typical of {timed.turns}",
            )
        )
    return found


def _models(models: list[ModelNote]) -> tuple[str, str, str]:
    """The parameters of all models, and of each where they are several."""
    total = sum(one.parameters for one in models)
    tensors = sum(one.tensors for one in models)
    remark = (
        f"{tensors} tensor{'s' * (tensors != 1)}, {formats.size(sum(one.bytes for one in models))}"
    )
    if len(models) > 1:
        alike = len({one.name for one in models}) < len(models)
        shown = [
            f"{formats.large(one.parameters)} of {one.name}{f' ({one.kind})' if alike else ''}"
            for one in models[:2]
        ]
        remark = ", ".join([*shown, f"{len(models) - 2} more models"] if len(models) > 2 else shown)
    return "parameters", formats.large(total), remark


def file(record: ExplainRecord, view: FileView) -> dict[str, Any]:
    """One file for the template: stretches of rows with highlighted code and notes."""
    known = {
        note.name.partition("[")[0].partition(".")[0]
        for one in _all_lines(record)
        for note in one.tensors
    }
    code = highlighted(view.file.text, known)
    findings = [one for one in record.findings if one.place.file == view.file.path]
    stretches = []
    for stretch in view.stretches():
        rows = []
        for row in stretch:
            indent = len(row.text) - len(row.text.lstrip())
            rows.append({
                "row": row, "code": code[row.number - 1] if row.number <= len(code) else "",
                "indent": indent, "notes": variants(row.notes),
                "findings": [one for one in findings if one.place.line == row.number],
            })  # fmt: skip
        stretches.append(rows)
    return {"view": view, "path": shown_path(view.file.path), "stretches": stretches}


def _all_lines(record: ExplainRecord) -> list[LineNote]:
    return [*record.setup, *(line for step in record.steps for line in step.lines)]


def variants(notes: list[Note]) -> list[dict[str, Any]]:
    """Notes of one statement with the steps that each holds for; equal ones are one."""
    found: list[dict[str, Any]] = []
    several = len({note.loop for note in notes}) > 1
    for note in notes:
        if not (note.line.sentences or note.line.ranks):
            continue
        same = next(
            (
                one
                for one in found
                if one["loop"] == note.loop
                and one["line"].sentences == note.line.sentences
                and one["line"].ranks == note.line.ranks
            ),
            None,
        )
        if same is None:
            found.append(
                {
                    "loop": note.loop,
                    "at": [at(note.loop, note.number)],
                    "line": note.line,
                    "label": several,
                }
            )
        else:
            same["at"].append(at(note.loop, note.number))
    return found


def loops(record: ExplainRecord) -> list[dict[str, Any]]:
    """Loops that have recorded steps, for the choice above the source."""
    return [
        {"number": number, "note": one, "steps": [step.number for step in steps_of(record, number)]}
        for number, one in enumerate(record.loops)
        if steps_of(record, number)
    ]


def cards(step: StepNote, timed: TimingNote | None) -> list[dict[str, Any]]:
    """The eight phases of a step; those that it has not are empty."""
    brief = {row[0]: row for row in step.brief}
    made = []
    for phase in PHASES:
        row = brief.get(phase)
        seconds = timed.phases.get(phase, 0.0) if timed is not None and row else 0.0
        made.append({
            "phase": phase, "words": row[2] if row else "", "places": row[1].split(",") if row else [],
            "seconds": microtime(seconds) if seconds else "",
            "share": seconds / timed.seconds if timed is not None and timed.seconds else 0.0,
        })  # fmt: skip
    return made


def timing(record: ExplainRecord, loop: int) -> dict[str, Any] | None:
    """Where the time of the main loop goes."""
    note = timing_of(record, loop)
    if note is None or not note.seconds:
        return None
    rows = [
        {"name": name, "seconds": note.phases[name], "share": note.phases[name] / note.seconds,
         "colour": COLOURS.get(name, len(PHASES)), "device": note.device.get(name),
         "waits": note.waits.get(name)}
        for name in (*PHASES, "own Python") if note.phases.get(name)
    ]  # fmt: skip
    drawing = Markup(explain_drawings.timeline(note))  # noqa: S704  escaped there
    seldom = [(one, now_and_then(note, one), longest_line(one)) for one in note.seldom]
    return {"note": note, "rows": rows, "drawing": drawing, "seldom": seldom,
            "apart": timed_apart(record, loop)}  # fmt: skip


def stock(record: ExplainRecord, recorded: list[StepNote]) -> list[tuple[str, int, str]]:
    """What a step holds in memory: name, bytes, remark."""
    if not record.models or not recorded:
        return []
    last = recorded[-1]
    parameters = sum(one.bytes for one in record.models)
    grads = max(
        (
            note.numbers
            for line in last.lines
            for note in line.effects.grads
            if note.change in ("written", "accumulated")
        ),
        default=0,
    )
    state = max((note.bytes for line in last.lines for note in line.effects.state), default=0)
    size = parameters / max(1, sum(one.parameters for one in record.models))
    batch = max(
        (
            sum(one["bytes"] for one in event.facts.get("batch", []))
            for line in last.lines
            for event in line.events
            if event.kind == "fetch"
        ),
        default=0,
    )
    rows = [
        ("parameters", parameters, "all the time"),
        ("gradients", round(grads * size), "from backward to zero_grad"),
        ("optimizer state", state, "from the first step on"),
        ("kept for backward", last.alone_bytes, "from forward to backward"),
        ("batch", batch, "this step"),
    ]
    return [row for row in rows if row[1]]


def _size(one: tuple[int, int]) -> int:
    return one[1] - one[0]


def losses(record: ExplainRecord, loop: int) -> Markup | None:
    """Batch losses, and the mean of each pass over the data beside them."""
    found = record.losses.get(str(loop), [])
    if len(found) < 3:
        return None
    note = record.loops[loop]
    series = [Series("batch loss", list(range(1, len(found) + 1)), found)]
    passes = list(pairwise([*note.passes, len(found)]))
    if record.stopped and len(passes) > 1 and _size(passes[-1]) != _size(passes[-2]):
        passes.pop()  # the program was ended in it
    if note.entered > 1 and passes:
        means = [sum(found[start:end]) / (end - start) for start, end in passes]
        xs = [x for start, end in passes for x in (start + 1, end)]
        series.append(Series("epoch mean", xs, [y for mean in means for y in (mean, mean)]))
    drawn = line_chart(series, title="loss of each batch", width=1080, height=220)
    return Markup(f"<p>{legend(series)}</p>{drawn}")  # noqa: S704  escaped there
