"""What terminal and page say of the difference between two explanations."""

from __future__ import annotations

from loopwright.events.explained import DifferenceRecord, LineChange

TITLES = {
    "gone": "gone",
    "new": "new",
    "does": "does something else",
    "numbers": "other numbers",
}


def told(record: DifferenceRecord) -> list[LineChange]:
    """Changes that are shown one by one."""
    return [one for one in record.lines if not one.follows]


def following(record: DifferenceRecord) -> list[LineChange]:
    """Changes that only follow from those."""
    return [one for one in record.lines if one.follows]


def headline(record: DifferenceRecord) -> str:
    """How many lines differ, and how.

    >>> from loopwright.events.explained import LineChange
    >>> headline(DifferenceRecord(lines=[LineChange("gone"), LineChange("numbers")], same=3))
    '1 line is gone, 1 line has other numbers; 3 do the same'
    """
    words = {
        "gone": ("is gone", "are gone"),
        "new": ("is new", "are new"),
        "does": ("does something else", "do something else"),
        "numbers": ("has other numbers", "have other numbers"),
    }
    parts = []
    for kind, (one, many) in words.items():
        count = sum(change.change == kind for change in told(record))
        if count:
            parts.append(f"{count} line{'s' if count > 1 else ''} {many if count > 1 else one}")
    if not record.lines:
        return f"all {record.same} lines that ran do the same in every recorded step"
    return f"{', '.join(parts) or 'no line'}; {record.same} do the same"


def aftermath(record: DifferenceRecord) -> str:
    """What follows from the changes; empty where nothing does."""
    rest = following(record)
    if not rest:
        return ""
    first = min(one.step for one in rest)
    which = "1 more line differs" if len(rest) == 1 else f"{len(rest)} more lines differ"
    places = ", ".join(str(one.line_after) for one in rest)
    return f"From step {first} on {which} in numbers alone (line{'s' if len(rest) > 1 else ''} {places})."


def where(change: LineChange) -> str:
    """The place of a change: ``8``, or ``8 → 9`` where it moved."""
    if change.change == "gone":
        return str(change.line_before)
    if change.line_before and change.line_before != change.line_after:
        return f"{change.line_before} → {change.line_after}"
    return str(change.line_after)


def when(change: LineChange) -> str:
    """The first step in which it differs, in words."""
    if not change.step:
        return ""
    loop = f" of the {change.loop}" if change.loop and change.loop != "the program" else ""
    return f"step {change.step}{loop}"
