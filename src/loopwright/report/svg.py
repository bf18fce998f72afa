"""Curves as a small SVG drawn in Python: for notebooks, and in the page until its script runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from loopwright.events import EpochRow, RunRecord, Series
from loopwright.report.curves import Chart, Line, charts, ordered, thin
from loopwright.report.formats import metric, number

COLORS = (
    *("#3f7ddb", "#dd6b2f", "#8a63d2", "#1f9d83", "#c7457f"),
    *("#a58a1c", "#4aa3c7", "#7b8794", "#b0573c", "#5f9e3a"),
)
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 24


def line_chart(
    series: Sequence[Series], *, title: str = "", width: int = 560, height: int = 200
) -> str:
    """One SVG element with every series as a line; readable on a light and on a dark page.

    Args:
        series: curves over the run's turns; values that are no number leave a gap.
        title: what a screen reader says.
        width: user units; the element itself takes the width that it is given.
        height: user units.
    """
    lines = [Line(s.name, i % 10, *ordered(s.x, s.y)) for i, s in enumerate(series)]
    return draw(Chart(title, lines), width=width, height=height)


def legend(series: Sequence[Series]) -> str:
    """Each curve's name and last value in its colour, as HTML to stand above ``line_chart``."""
    return _legend(
        Chart("", [Line(s.name, i % 10, *ordered(s.x, s.y)) for i, s in enumerate(series)])
    )


def notebook(title: str, series: Mapping[str, Series], epochs: Sequence[EpochRow]) -> str:
    """A title and the first charts as one HTML fragment, for ``_repr_html_``."""
    head = f"<strong>{escape(title)}</strong>" if title else ""
    return f'<div style="font:13px system-ui,sans-serif">{head}{curves(series, epochs)}</div>'


def curves(series: Mapping[str, Series], epochs: Sequence[EpochRow] = (), limit: int = 6) -> str:
    """The first charts of some curves side by side: an HTML fragment with no script, no style sheet.

    Args:
        series: curves over the run's turns, by name.
        epochs: what each epoch came to; its values are curves as well.
        limit: how many charts to draw.
    """
    found = charts(RunRecord(name="", series=dict(series), epochs=list(epochs)))
    cells = [
        f'<figure style="margin:0;flex:1 1 320px;max-width:560px">'
        f'<figcaption style="font:600 13px system-ui,sans-serif;margin:4px 0">'
        f"{escape(chart.label[:1].upper() + chart.label[1:])}"
        f"{_legend(chart)}</figcaption>{draw(chart)}</figure>"
        for chart in found[:limit]
    ]
    body = "".join(cells) or "<p>no curves yet</p>"
    return (
        f'<div style="font:13px system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:8px 24px">'
        f"{body}</div>"
    )


def draw(chart: Chart, *, width: int = 560, height: int = 200, points: int = 600) -> str:
    """The chart over turns as one SVG element."""
    lines = [line for line in chart.lines if "s" in line.views] or chart.lines
    few = [(line, thin(line.x, line.y, points)) for line in lines]
    xs = [x for _, thinned in few for x in thinned.x]
    ys = [y for _, thinned in few for y in thinned.y if y is not None]
    label = escape(f"{chart.label}: " + ", ".join(_last(chart, line) for line in lines), quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="100%" style="display:block;max-width:100%" '
        f'font-family="system-ui,sans-serif" font-size="11">'
    )
    if not ys:
        nothing = f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" fill="#808893">'
        return f"{head}{nothing}no finite value</text></svg>"
    x_low, x_high = _span(min(xs), max(xs))
    y_low, y_high = _span(min(ys), max(ys), pad=0.06)
    inner_width, inner_height = width - LEFT - RIGHT, height - TOP - BOTTOM

    def at_x(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * inner_width

    def at_y(y: float) -> float:
        return TOP + (y_high - y) / (y_high - y_low) * inner_height

    parts = [head]
    parts += [
        f'<path d="M{LEFT} {at_y(tick):.1f}h{inner_width}" stroke="#808893" '
        f'stroke-opacity=".22"/><text x="{LEFT - 6}" y="{at_y(tick) + 4:.1f}" '
        f'text-anchor="end" fill="#808893">{number(tick)}</text>'
        for tick in ticks(y_low, y_high, 4)
    ]
    parts += [
        f'<text x="{at_x(tick):.1f}" y="{height - 7}" text-anchor="middle" '
        f'fill="#808893">{number(tick)}</text>'
        for tick in ticks(x_low, x_high, 5)
    ]
    for line, thinned in few:
        color = f"var(--s{line.color},{COLORS[line.color]})"
        points_at = [
            None if y is None else (at_x(x), at_y(y))
            for x, y in zip(thinned.x, thinned.y, strict=True)
        ]
        parts.append(
            f'<path d="{"".join(_path(points_at))}" fill="none" style="stroke:{color}" '
            f'stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round"/>'
        )
        for start, stop, kind in thinned.bad[:1]:
            x, broad = at_x(start), max(2.0, at_x(stop) - at_x(start))
            parts.append(
                f'<rect x="{x:.1f}" y="{TOP}" width="{broad:.1f}" height="{inner_height}" '
                f'fill="#d64545" fill-opacity=".14"/><text x="{min(x + 4, width - 34):.1f}" '
                f'y="{TOP + 12}" fill="#d64545">{kind}</text>'
            )
    return "".join(parts) + "</svg>"


def _path(points: Sequence[tuple[float, float] | None]) -> Iterator[str]:
    """Path commands with a gap at each missing point; a lone point is a dot."""
    padded = [None, *points, None]
    for (before, point), after in zip(pairwise(padded), padded[2:], strict=False):
        if point is not None:
            yield f"{'L' if before else 'M'}{point[0]:.1f} {point[1]:.1f}"
            if not before and not after:
                yield "h.1"


def _span(low: float, high: float, pad: float = 0.0) -> tuple[float, float]:
    if high - low <= abs(high) * 1e-12:
        half = abs(high) * 0.05 or 0.5
        return low - half, high + half
    return low - (high - low) * pad, high + (high - low) * pad


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between ``low`` and ``high``."""
    rough = (high - low) / max(1, wanted)
    if not math.isfinite(rough) or rough <= 0:
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * k for k in (1, 2, 5) if power * k >= rough * 0.999), power * 10)
    first = math.ceil(low / step)
    return [
        round(k * step, 12) if step > 1e-9 else k * step
        for k in range(first, math.floor(high / step + 1e-9) + 1)
    ][:50]


def _last(chart: Chart, line: Line) -> str:
    value = line.y[-1] if line.y else None
    name = "" if line.label == chart.label else f"{line.label} "
    return f"{name}{metric(chart.title, value)}"


def _legend(chart: Chart) -> str:
    shown = [line for line in chart.lines if "s" in line.views] or chart.lines
    return "".join(
        f' <span style="font-weight:400;color:var(--s{line.color},{COLORS[line.color]})">'
        f"{escape(_last(chart, line))}</span>"
        for line in shown[:6]
    )
