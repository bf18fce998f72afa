"""Findings as JSON; the schema is documented in docs/check.md and only ever grows."""

from __future__ import annotations

import json
from typing import Any

from loopwright.events import CheckRecord, Finding, Place
from loopwright.report.source import shown_path

output_file_extension = ".json"


def render(record: CheckRecord) -> str:
    """The whole record."""
    return json.dumps(
        {
            "version": 1,
            "findings": [_finding(one) for one in record.findings],
            "program": {
                "command": record.program.command,
                "exit_code": record.program.exit_code,
                "exception": record.program.exception,
            },
            "observed": {
                "steps": record.steps,
                "events": record.events,
                "processes": record.processes,
            },
            "suppressed": record.suppressed,
            "notes": record.notes,
        },
        indent=2,
    )


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "severity": one.severity,
        **_place(one.place),
        "message": one.message,
        "evidence": one.evidence,
        "why": one.why,
        "fix": one.fix,
        "count": one.count,
        "related": [{**_place(other), "note": other.note} for other in one.related],
        "ranks": one.ranks,
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "file": shown_path(place.file),
        "line": place.line,
        "column": place.column,
        "end_line": place.end_line or place.line,
        "end_column": place.end_column or place.column,
    }
