"""What a run came to, in the terminal: the end of a run, the model's table, the table of runs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from loopwright.events import ModelSummary, RunRecord, Verification
from loopwright.report import formats, headline
from loopwright.report.curves import split_role
from loopwright.report.layers import layers
from loopwright.report.timing import phases

output_file_extension = ".txt"

BARS = "▁▂▃▄▅▆▇█"
STYLES = {"finished": "green", "stopped": "green", "interrupted": "yellow", "failed": "red"}
FOUND = {"sound": "green", "readable": "green dim", "passing": "dim", "damaged": "bold red"}
CURVES_SHOWN = 6
SAMPLE_SHOWN = 600
"""Characters of the newest sample (a written text, say) that are shown; the page has all of it."""

_ALLOWED = "\n\t" + formats.SPACE


def render(record: RunRecord, *, width: int = 100) -> str:
    """The end-of-run summary as plain text."""
    return to_text(summary(record), width=width)


def to_text(shown: RenderableType, *, width: int = 100) -> str:
    """What rich would print, without colours and without trailing blanks."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    console.print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def summary(record: RunRecord, *, report: str | None = None) -> RenderableType:
    """Outcome, headline numbers, curves as sparklines, a sample, time by phase, and where things lie.

    Args:
        record: the run.
        report: path of the written page, shown as the last line.
    """
    parts: list[RenderableType] = [_outcome(record)]
    if record.outcome.error:
        parts.append(Text(_clean(record.outcome.error), style="red"))
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    for readout in headline.readouts(record):
        table.add_row(Text(_clean(readout.label)), Text(readout.value), Text(readout.note))
    if table.row_count:
        parts += [Text(), table]
    curves = _curves(record)
    if curves is not None:
        parts += [Text(), curves]
    if record.samples:
        parts += [Text(), Text("sample", style="dim"), _sample(record.samples[-1])]
    timed = phases(record)
    if timed:
        words = [f"{p.name} {formats.percent(p.share, 0)}" for p in timed if p.share >= 0.005]
        parts += [Text(), Text.assemble(("time  ", "dim"), _clean(", ".join(words)))]
    parts += [Text.assemble(("note  ", "yellow"), _clean(note)) for note in record.notes]
    for label, where in (("folder", record.folder), ("report", report)):
        if where:
            parts.append(Text.assemble((f"{label}  ", "dim"), _clean(where)))
    return Group(*parts)


def model(shown: ModelSummary) -> Table:
    """The model's modules with output shapes and parameters, totals below."""
    rows, left_out = layers(shown)
    table = Table(box=None, header_style="dim", padding=(0, 2), show_footer=True)
    total = f"{formats.count(shown.parameters)}"
    table.add_column("module", footer="total")
    table.add_column("kind", style="dim")
    table.add_column("output", style="dim")
    table.add_column("parameters", justify="right", footer=total)
    table.add_column("")
    for row in rows:
        table.add_row(
            Text("  " * row.depth + _clean(row.name)),
            Text(_clean(row.kind)),
            Text(row.shape),
            Text(formats.count(row.parameters) if row.parameters else formats.MISSING),
            Text(row.frozen, style="yellow"),
        )
    facts = [f"{formats.large(shown.trainable)} trainable", formats.size(shown.bytes)]
    if shown.flops:
        facts.append(f"{formats.large(shown.flops)} FLOPs a sample")
    if left_out:
        facts.append(f"{formats.count(left_out)} deeper modules left out")
    table.caption = Text(", ".join(facts), style="dim")
    return table


def verification(found: Verification) -> RenderableType:
    """Each part of a run's folder with its state, and what the same command would do."""
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0), pad_edge=False)
    for name, justify in (("part", "left"), ("size", "right"), ("state", "left"), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "", overflow="fold")
    for part in found.parts:
        table.add_row(
            Text(_clean(part.name)),
            Text(formats.size(part.bytes) if part.bytes else formats.MISSING, style="dim"),
            Text(part.state, style=FOUND[part.state]),
            Text(_clean(part.says), style="" if part.state == "damaged" else "dim"),
        )
    broken, sound = len(found.damaged), sum(part.state == "sound" for part in found.parts)
    if broken:
        verdict = Text(f"{broken} of {len(found.parts)} parts damaged", style="bold red")
    else:
        verdict = Text.assemble(
            ("Sound", "bold green"),
            f": {sound} of {len(found.parts)} parts proven by their hashes, the others readable",
        )
    resume = Text.assemble(("The same command ", "dim"), _clean(found.resume))
    return Group(table, Text(), verdict, resume)


def runs(records: Sequence[RunRecord], *, width: int | None = None) -> Table:
    """One row a run: its folder as one types it, outcome, main metric, losses, epochs, time.

    Args:
        records: the runs.
        width: of the terminal; columns from the right are left out where it has no room for them.
    """
    rows = [_row_of(record) for record in records]
    # A run's own name is told where its folder does not say it, beside the folder and not in it.
    named = any(record.name not in (record.folder or "") for record in records)
    columns = [one for one in RUN_COLUMNS if named or one != "name"]
    while width is not None and len(columns) > 1 and _width(columns, rows) > width:
        columns.pop()
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, justify=RUN_COLUMNS[name], overflow="fold", no_wrap=name != "run")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


RUN_COLUMNS: dict[str, Any] = {
    "run": "left", "outcome": "left", "best": "right", "valid loss": "right", "train loss": "right",
    "epochs": "right", "time": "right", "name": "left",
}  # fmt: skip


def _row_of(record: RunRecord) -> dict[str, Text]:
    best = headline.main_metric(record)
    told = formats.MISSING
    if best is not None:
        told = f"{_clean(split_role(best.name)[1])} {formats.metric(best.name, best.value)}"
    return {
        "run": Text(_clean(record.folder or ""), style="bold"),
        "outcome": Text(record.outcome.kind, style=STYLES.get(record.outcome.kind, "")),
        "best": Text(told),
        "valid loss": Text(formats.number(headline.last_value(record, "valid_loss"))),
        "train loss": Text(formats.number(headline.last_value(record, "train_loss"))),
        "epochs": Text(formats.number(record.totals.get("epochs") or len(record.epochs) or None)),
        "time": Text(formats.duration(record.outcome.seconds or math.nan)),
        "name": Text(_clean(record.name), style="dim"),
    }


def _width(columns: Sequence[str], rows: Sequence[dict[str, Text]]) -> int:
    """The characters that the columns take, with two between each."""
    each = [max(len(name), *(row[name].cell_len for row in rows)) for name in columns]
    return sum(each) + 2 * (len(columns) - 1)


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """A curve in one line of block characters; ``×`` where there is no finite value."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    means: list[float | None] = []
    for start, stop in pairwise(edges):
        finite = [v for v in values[start:stop] if abs(v) < 1e150]
        means.append(math.fsum(finite) / len(finite) if finite else None)
    known = [m for m in means if m is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = (high - low) or 1.0
    return "".join("×" if m is None else BARS[min(7, int((m - low) / span * 7.999))] for m in means)


def _outcome(record: RunRecord) -> Text:
    kind = record.outcome.kind
    style = f"bold {STYLES.get(kind, 'blue')}"
    text = Text.assemble((headline.OUTCOMES.get(kind, str(kind)), style))
    text.append("  " + _clean(record.name or "run"), style="bold")
    if record.outcome.reason:
        text.append("  " + _clean(record.outcome.reason), style="dim")
    return text


def _curves(record: RunRecord) -> Table | None:
    curves: dict[str, list[float]] = {}
    for name, series in record.series.items():
        if name == "loss":
            curves["loss"] = [formats.to_float(v) for v in series.y]
    for row in record.epochs:
        for name, value in row.values.items():
            if value is not None and name != "train_loss":
                curves.setdefault(name, []).append(formats.to_float(value))
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column()
    table.add_column(justify="right")
    for name, values in list(curves.items())[:CURVES_SHOWN]:
        if len(values) > 1:
            last = formats.metric(name, values[-1])
            table.add_row(Text(_clean(name)), Text(sparkline(values)), Text(last))
    return table if table.row_count else None


def _sample(text: str) -> Text:
    cut = text if len(text) <= SAMPLE_SHOWN else text[:SAMPLE_SHOWN].rstrip() + " …"
    lines = cut.strip("\n").splitlines()
    return Text("\n".join("  " + _clean(line) for line in lines))


def _clean(text: str) -> str:
    """Without control characters: a name from a file must not move the cursor or colour the screen."""
    shown = "".join(c if c.isprintable() or c in _ALLOWED else "\ufffd" for c in str(text))
    return shown.encode("utf-8", "replace").decode("utf-8")
