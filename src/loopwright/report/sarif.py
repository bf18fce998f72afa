"""Findings as SARIF 2.1.0, which code hosts show inline."""

from __future__ import annotations

import json
import os
import urllib.parse
from pathlib import PurePath
from typing import Any

from loopwright.events import CheckRecord, Finding, Place
from loopwright.report.source import shown_path

output_file_extension = ".sarif"

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS = {"error": "error", "warning": "warning", "hint": "note"}


def render(record: CheckRecord, *, version: str = "0", rules: dict[str, str] | None = None) -> str:
    """One run of one tool.

    Args:
        record: what was found.
        version: of the tool.
        rules: id -> one line about it, for the rules that found something.
    """
    used = sorted({one.rule for one in record.findings})
    driver: dict[str, Any] = {
        "name": "loopwright",
        "version": version,
        "rules": [
            {"id": name, "shortDescription": {"text": (rules or {}).get(name) or name}}
            for name in used
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": record.program.exit_code == 0,
                "exitCode": record.program.exit_code,
                "commandLine": " ".join(record.program.command),
            }
        ],
        "results": [_result(one, used.index(one.rule)) for one in record.findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(one: Finding, index: int) -> dict[str, Any]:
    text = ". ".join(
        part for part in (one.message, one.why and f"Why it matters: {one.why}") if part
    )
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": LEVELS[one.severity],
        "message": {"text": text + (f". Write: {one.fix}" if one.fix else "")},
        "locations": [_location(one.place)] if one.place.file else [],
        "occurrenceCount": max(one.count, 1),
    }
    if one.related:
        result["relatedLocations"] = [
            {**_location(other), "message": {"text": other.note}} for other in one.related
        ]
    return result


def _location(place: Place) -> dict[str, Any]:
    region: dict[str, int] = {"startLine": max(place.line, 1), "startColumn": max(place.column, 1)}
    if place.end_line:
        region |= {"endLine": place.end_line, "endColumn": max(place.end_column, 1)}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(place.file)}, "region": region}}


def _uri(file: str) -> str:
    """A reference below the working folder, else the file's own address; other letters are written as %XX."""
    path = shown_path(file)
    if os.path.isabs(path):
        return PurePath(path).as_uri()
    return urllib.parse.quote(path.replace(os.sep, "/"))
