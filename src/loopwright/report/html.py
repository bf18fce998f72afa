"""The page about one run: one file, no network request, readable without its script.

The page carries its style sheet, its script and its numbers. A content security policy lets exactly
that script run (by its hash) and nothing be loaded, whatever names and texts a run may hold.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loopwright.events import RunRecord
from loopwright.report import formats, headline
from loopwright.report.classes import confusion
from loopwright.report.curves import Chart, charts, epoch_ends, label, payload
from loopwright.report.json import embed
from loopwright.report.layers import layers
from loopwright.report.svg import draw
from loopwright.report.timing import phases

output_file_extension = ".html"

FIRST_CHARTS = 10
EPOCH_COLUMNS = 24
EPOCH_ROWS = 500

_CONTROLS = [*range(9), 11, 12, *range(14, 32), *range(127, 160)]
_UNPRINTABLE = dict.fromkeys([*_CONTROLS, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def render(record: RunRecord) -> str:
    """The report of one run as a self-contained HTML page."""
    shown = charts(record)
    metrics = [chart for chart in shown if not chart.optimization]
    optimization = [chart for chart in shown if chart.optimization]
    views = [confusion(c) for c in record.classifications if c.counts or c.worst]
    data = payload(shown, [epoch_ends(record.epochs)])
    data["matrices"] = [view.sparse for view in views]
    command = shell(record.command)
    model_rows, layers_left_out = layers(record.model) if record.model else ([], 0)
    return page(
        "run.html.jinja",
        data=data,
        title=record.name or "run",
        record=record,
        outcome=headline.OUTCOMES.get(record.outcome.kind, str(record.outcome.kind)),
        readouts=headline.readouts(record),
        bests=headline.bests(record),
        charts=metrics[:FIRST_CHARTS],
        more_charts=metrics[FIRST_CHARTS:],
        optimization=optimization,
        chart_number={id(chart): i for i, chart in enumerate(shown)},
        phases=phases(record),
        confusions=views,
        layers=model_rows,
        layers_left_out=layers_left_out,
        command=command,
        epochs=epoch_table(record),
        totals=totals(record),
        setup=any(
            (command, record.settings, record.environment, record.totals, record.checkpoints)
        ),
    )


def page(
    template: str,
    *,
    data: dict[str, Any],
    script: str = "report.js",
    styles: tuple[str, ...] = ("report.css",),
    **values: Any,
) -> str:
    """A template filled in, with the assets and the data that its script reads."""
    code = asset(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = (
        environment()
        .get_template(template)
        .render(
            **values,
            css=Markup("\n".join(map(asset, styles))),  # noqa: S704 - files of this package
            js=Markup(code),  # noqa: S704 - a file of this package
            js_hash=f"sha256-{digest}",
            data=Markup(embed(data)),  # noqa: S704 - embed leaves nothing that HTML reads
        )
    )
    # A lone surrogate (a file name that is no UTF-8) cannot be written; a control character is no
    # HTML; one that turns the direction of writing would let a name disguise what follows it.
    return text.translate(_UNPRINTABLE).encode("utf-8", "replace").decode("utf-8")


@cache
def environment() -> Environment:
    """The templates of this package; every value is escaped, a missing one is an error."""
    made = Environment(
        loader=PackageLoader("loopwright.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= {
        name: getattr(formats, name)
        for name in ("count", "duration", "flatten", "large", "number", "percent", "size")
    }
    made.filters |= {"still": still, "moment": moment, "id": id}
    words: dict[str, Any] = {"metric": formats.metric, "metric_label": label}
    made.globals.update(words)
    return made


@cache
def asset(name: str) -> str:
    """A file of ``report/assets`` as text."""
    return files("loopwright.report").joinpath("assets", name).read_text(encoding="utf-8")


def still(chart: Chart) -> Markup:
    """The chart as it looks before the script runs (and where none does)."""
    return Markup(draw(chart, points=160))  # noqa: S704 - draw escapes names


def shell(command: list[str]) -> str:
    """The command as one line that can be pasted into a shell."""
    return shlex.join(str(word) for word in command)


def moment(text: str) -> str:
    """An ISO time as a person writes it; anything else as it stands."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {when.tzname()}" if when.tzinfo else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def totals(record: RunRecord) -> dict[str, str]:
    """Everything that was counted, the phases' sum among it."""
    rows = {name: formats.number(value) for name, value in record.totals.items()}
    if record.outcome.seconds:
        rows["time"] = formats.duration(record.outcome.seconds)
    return rows


def epoch_table(record: RunRecord) -> dict[str, Any]:
    """The epochs as rows of printed values, the best of each column marked, the latest kept."""
    names = list(dict.fromkeys(name for row in record.epochs for name in row.values))
    columns = []
    for name in names[:EPOCH_COLUMNS]:
        raw = [row.values.get(name) for row in record.epochs]
        texts = formats.column(name, [None if v is None else formats.to_float(v) for v in raw])
        best = headline.best_epoch(record, name)
        at = best.epoch if best is not None and best.mode is not None else None
        columns.append([(text, at == i) for i, text in enumerate(texts, start=1)])
    rows = [(row, [column[i] for column in columns]) for i, row in enumerate(record.epochs)]
    many_loops = len({row.loop for row in record.epochs}) > 1
    return {
        "names": names[:EPOCH_COLUMNS],
        "columns_left_out": len(names) - len(names[:EPOCH_COLUMNS]),
        "rows": rows[-EPOCH_ROWS:],
        "rows_left_out": max(0, len(rows) - EPOCH_ROWS),
        "many_loops": many_loops,
    }
