"""A record as JSON that every parser reads: numbers that are no numbers become strings."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from loopwright.events import RunRecord


def render(record: RunRecord) -> str:
    """The whole record, indented; NaN and infinities as ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    return json.dumps(to_plain(dataclasses.asdict(record)), indent=2, allow_nan=False)


def embed(value: Any) -> str:
    """Compact JSON that may stand inside a script element: nothing in it can close the element."""
    text = json.dumps(to_plain(value), allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def to_plain(value: Any) -> Any:
    """``value`` in JSON's own types; what has none is printed."""
    if isinstance(value, dict):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
