"""Drawings of an explanation that need no script: memory over a step, and its timeline."""

from __future__ import annotations

from html import escape

from loopwright.events import PHASES
from loopwright.events.explained import ExplainRecord, StepNote, TimingNote
from loopwright.report.explain_view import microtime
from loopwright.report.formats import size
from loopwright.report.svg import ticks

LANE, BETWEEN = 34, 14
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1080, 240, 64, 12, 14, 30


def memory(step: StepNote, record: ExplainRecord) -> str:
    """Bytes allocated since the step began, each stretch in the colour of its line's phase.

    The horizontal axis counts allocations, not time: a step spends most of its time where nothing is
    allocated.
    """
    points = step.memory
    low = min(0, *(one[1] for one in points))
    high = max(1, *(one[1] for one in points))
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(number: float) -> float:
        return LEFT + number / max(1, len(points)) * wide

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * tall

    peak = max(points, key=lambda one: one[1])
    words = f"Memory over step {step.number}: at most {size(peak[1])} more than at its beginning"
    parts = [
        f'<svg class="memory" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        f' role="img" aria-label="{escape(words)}">',
    ]
    for tick in ticks(low, high, 4):
        level = f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{size(tick)}</text>'
        parts += [f'<path class="tick" d="M{LEFT} {y(tick):.1f}h{wide}"/>', level]
    start = 0
    labelled = -100.0
    for at in range(1, len(points) + 1):
        if at < len(points) and points[at][0] == points[start][0]:
            continue
        parts.append(_stretch(step, record, start, at, x, y))
        middle = (x(start) + x(at)) / 2
        if x(at) - x(start) > 26 and middle - labelled > 44:
            line = step.lines[points[start][0]].line
            parts.append(
                f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">line {line}</text>'
            )
            labelled = middle
        start = at
    parts.append("</svg>")
    return "".join(parts)


def _stretch(step: StepNote, record: ExplainRecord, start: int, end: int, x, y) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """The allocations of one run of one line."""
    points = step.memory
    line = step.lines[points[start][0]]
    phase = line.phases[-1] if line.phases else ""
    colour = PHASES.index(phase) if phase in PHASES else len(PHASES)
    before = points[start - 1][1] if start else 0
    path = f"M{x(start):.1f} {y(0):.1f}V{y(before):.1f}"
    for number in range(start, end):
        path += f"H{x(number + 0.5):.1f}V{y(points[number][1]):.1f}"
    path += f"H{x(end):.1f}V{y(0):.1f}Z"
    grown = points[end - 1][1] - before
    text = (
        record.files[line.file].text.splitlines()[line.line - 1].strip()
        if line.file < len(record.files)
        else ""
    )
    words = f"line {line.line}: {text[:60]}  ({'+' if grown >= 0 else '−'}{size(abs(grown))})"
    return f'<path class="area" style="--c:var(--p{colour})" d="{path}"><title>{escape(words)}</title></path>'


def timeline(note: TimingNote) -> str:
    """One step from left to right: which call ran when, on the host and, where there is one, on the device.

    Waiting for the device is hatched: the host does nothing then.
    """
    lanes = [
        (lane, spans) for lane in ("host", "device")
        if (spans := [one for one in note.timeline if one.lane == lane])
    ]  # fmt: skip
    if not lanes:
        return ""
    end = max(note.seconds, *(one.began + one.seconds for one in note.timeline)) or 1.0
    wide = WIDTH - LEFT - RIGHT
    tall = TOP + len(lanes) * (LANE + BETWEEN) + BOTTOM
    words = f"Timeline of one step of {microtime(end)}"
    parts = [
        f'<svg class="timeline" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}"',
        f' role="img" aria-label="{escape(words)}">',
    ]
    for number, (lane, spans) in enumerate(lanes):
        top = TOP + number * (LANE + BETWEEN)
        parts.append(
            f'<text x="{LEFT - 8}" y="{top + LANE / 2 + 4:.0f}" text-anchor="end">{lane}</text>'
            f'<path class="tick" d="M{LEFT} {top + LANE}h{wide}"/>'
        )
        for one in sorted(spans, key=lambda one: (one.began, -one.seconds)):
            left = LEFT + one.began / end * wide
            parts.append(
                _call(one.phase, one.line, one.seconds, left, top, one.seconds / end * wide)
            )
            if one.waited:
                parts.append(
                    f'<rect class="waited" x="{left:.1f}" y="{top}" height="{LANE}" '
                    f'width="{max(1.0, one.waited / end * wide):.1f}"><title>waiting for the device: '
                    f"{microtime(one.waited)}</title></rect>"
                )
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        parts.append(
            f'<text x="{LEFT + tick * wide:.1f}" y="{tall - 12}" text-anchor="{anchor}">'
            f"{microtime(tick * end)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _call(phase: str, line: int, seconds: float, left: float, top: float, wide: float) -> str:
    """One call as a bar, with its name where there is room."""
    colour = PHASES.index(phase) if phase in PHASES else len(PHASES)
    words = f"{phase}, line {line}: {microtime(seconds)}"
    bar = (
        f'<rect class="call" style="--c:var(--p{colour})" x="{left:.1f}" y="{top}" '
        f'width="{max(1.0, wide):.1f}" height="{LANE}"><title>{escape(words)}</title></rect>'
    )
    if wide < 8 * len(phase) + 8:
        return bar
    return f'{bar}<text class="in" x="{left + 6:.1f}" y="{top + LANE / 2 + 4:.0f}">{phase}</text>'
