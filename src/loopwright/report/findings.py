"""Findings in the terminal: a frame of source with the exact expression underlined, as compilers do."""

from __future__ import annotations

from loopwright.events import CheckRecord, Finding, Place
from loopwright.report.source import shown_path, source_line, span

output_file_extension = ".txt"

COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "hint": "\x1b[1;36m"}
BLUE, BOLD, PLAIN = "\x1b[1;34m", "\x1b[1m", "\x1b[0m"
GAP = 3
"""Lines between two marked ones that are shown; further apart, "..." stands for them."""


def render(record: CheckRecord, *, colour: bool = False) -> str:
    """Every finding, and one line that sums up."""
    parts = [frame(one, colour=colour) for one in record.findings]
    return "\n".join([*parts, *(f"note: {note}" for note in record.notes), summary(record)]) + "\n"


def frame(finding: Finding, *, colour: bool = False) -> str:
    """One finding: what happened, where, why it matters, what to write."""
    paint = _painter(finding, colour=colour)
    times = f" (ranks {', '.join(map(str, sorted(finding.ranks)))})" if finding.ranks else ""
    lines = [
        paint(f"{finding.severity}[{finding.rule}]", "kind")
        + paint(f": {finding.message}{times}", "bold")
    ]
    here = [one for one in finding.related if one.file == finding.place.file and one.note]
    elsewhere = [one for one in finding.related if one.file != finding.place.file and one.note]
    lines += _snippet(finding.place, here, _count(finding), paint)
    for one in elsewhere:
        lines += _snippet(one, [], one.note, paint, mark="-")
    width = len(str(max([finding.place.line, *(one.line for one in finding.related)])))
    for label, text in (
        ("seen", "\n".join(finding.evidence)),
        ("why", finding.why),
        ("fix", finding.fix),
    ):
        for index, line in enumerate(text.splitlines()):
            head = f"{label}: " if index == 0 else " " * (len(label) + 2)
            lines.append(f"{' ' * width} {paint('=', 'blue')} {paint(head, 'bold')}{line}")
    return "\n".join(lines) + "\n"


def summary(record: CheckRecord) -> str:
    """Like "1 error, 2 hints; 645 steps and 5,312 events observed"."""
    counts = []
    for severity in ("error", "warning", "hint"):
        number = sum(one.severity == severity for one in record.findings)
        if number:
            counts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    seen = f"{record.steps:,} steps and {sum(record.events.values()):,} events observed"
    if record.processes > 1:
        seen += f" in {record.processes} processes"
    hidden = f"; {record.suppressed} suppressed" if record.suppressed else ""
    if not record.steps:
        seen += "; no optimizer step was seen, so little could be checked"
    return f"loopwright check: {', '.join(counts) or 'nothing found'}{hidden}; {seen}"


def _count(finding: Finding) -> str:
    return f"{finding.count:,} times" if finding.count > 1 else ""


def _painter(finding: Finding, *, colour: bool):  # noqa: ANN202  a function of text and role
    codes = {
        "kind": COLOURS[finding.severity],
        "mark": COLOURS[finding.severity],
        "blue": BLUE,
        "bold": BOLD,
    }

    def paint(text: str, role: str) -> str:
        return f"{codes[role]}{text}{PLAIN}" if colour else text

    return paint


def _snippet(place: Place, related: list[Place], note: str, paint, mark: str = "^") -> list[str]:  # noqa: ANN001
    """Source lines from the first to the last marked one."""
    marks: dict[int, list[tuple[Place, str, str]]] = {place.line: [(place, mark, note)]}
    for one in related:
        marks.setdefault(one.line, []).append((one, "-", one.note))
    width = len(str(max(marks)))
    lines = [
        f"{' ' * width}{paint('-->', 'blue')} {shown_path(place.file)}:{place.line}:{place.column}"
    ]
    bar = paint("|", "blue")
    if not any(source_line(place.file, number) for number in marks):
        return lines
    lines.append(f"{' ' * width} {bar}")
    previous = None
    for number in sorted(marks):
        if previous is not None and number - previous > GAP + 1:
            lines.append("...")
        elif previous is not None:
            lines += [
                f"{paint(str(n).rjust(width), 'blue')} {bar} {source_line(place.file, n)}".rstrip()
                for n in range(previous + 1, number)
            ]
        lines.append(
            f"{paint(str(number).rjust(width), 'blue')} {bar} {source_line(place.file, number)}"
        )
        for one, sign, text in marks[number]:
            start, end = span(one)
            under = sign * (end - start) + (f" {text}" if text else "")
            lines.append(
                f"{' ' * width} {bar} {' ' * start}{paint(under, 'mark' if sign == '^' else 'blue')}"
            )
        previous = number
    lines.append(f"{' ' * width} {bar}")
    return lines
