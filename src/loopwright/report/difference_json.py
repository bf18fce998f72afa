"""The difference of two explanations as JSON; ``docs/explain-json.md`` says what each field is."""

from __future__ import annotations

import dataclasses
import json

from loopwright.events.explained import DifferenceRecord
from loopwright.report.json import to_plain

output_file_extension = ".json"
VERSION = 1


def render(record: DifferenceRecord) -> str:
    """Indented by one."""
    plain = to_plain(dataclasses.asdict(record))
    return json.dumps({"version": VERSION, **plain}, indent=1, allow_nan=False, ensure_ascii=False)
