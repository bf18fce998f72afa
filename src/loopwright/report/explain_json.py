"""An explanation as JSON: the whole record; ``docs/explain-json.md`` says what each field is."""

from __future__ import annotations

import dataclasses
import json

from loopwright.events.explained import ExplainRecord
from loopwright.report.json import to_plain

output_file_extension = ".json"
VERSION = 1


def render(record: ExplainRecord) -> str:
    """Indented by one; NaN and infinities as ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    plain = to_plain(dataclasses.asdict(record))
    return json.dumps({"version": VERSION, **plain}, indent=1, allow_nan=False, ensure_ascii=False)
