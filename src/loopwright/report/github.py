"""Findings as the workflow commands that GitHub turns into annotations."""

from __future__ import annotations

from loopwright.events import CheckRecord
from loopwright.report.findings import summary
from loopwright.report.source import shown_path

output_file_extension = ".txt"

COMMANDS = {"error": "error", "warning": "warning", "hint": "notice"}


def render(record: CheckRecord) -> str:
    """One command a finding, and the summary as an ordinary line."""
    lines = []
    for one in record.findings:
        place = one.place
        where = f"file={_value(shown_path(place.file))},line={place.line},col={place.column}"
        if place.end_line:
            where += f",endLine={place.end_line},endColumn={place.end_column}"
        text = "\n".join(
            part
            for part in (one.message, one.why and f"why: {one.why}", one.fix and f"fix: {one.fix}")
            if part
        )
        lines.append(f"::{COMMANDS[one.severity]} {where},title={_value(one.rule)}::{_data(text)}")
    return "\n".join([*lines, summary(record)]) + "\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _value(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
