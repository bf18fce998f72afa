"""Brings the processes of one program together: the same finding of several ranks is one finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loopwright.checker.ranks import alone, held, journal, order
from loopwright.events import CheckRecord, Finding, Place

ORDER = {"error": 0, "warning": 1, "hint": 2}


def read(folder: Path) -> CheckRecord:
    """What all processes left in ``folder``."""
    processes = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    record = CheckRecord(processes=len(processes))
    ends = sorted(folder.glob("*.end"))
    record.program.exception = ends[0].read_text() if ends else None
    unique: dict[tuple[str, str, int], Finding] = {}
    for one in processes:
        record.steps += one["steps"]
        for kind, count in one["events"].items():
            record.events[kind] = record.events.get(kind, 0) + count
        record.files += [file for file in one["files"] if file not in record.files]
        record.notes += [note for note in one["notes"] if note not in record.notes]
        for raw in one["findings"]:
            finding = finding_of(raw)
            key = (finding.rule, finding.place.file, finding.place.line)
            known = unique.setdefault(key, finding)
            if known is not finding:
                known.count += finding.count
            if one["rank"] is not None and one["rank"] not in known.ranks:
                known.ranks.append(one["rank"])
    found = list(unique.values())
    found += held.compared(processes, found)
    found += alone.compared(processes)
    journals = journal.read(folder)
    told, notes = order.compared(journals)
    found += told
    record.notes += notes
    record.files += [one for one in journal.files(journals) if one not in record.files]
    record.findings = sorted(
        found, key=lambda one: (ORDER[one.severity], one.place.file, one.place.line)
    )
    return record


def finding_of(raw: dict[str, Any]) -> Finding:
    """A finding from its plain form."""
    made = Finding(**raw)
    made.place = Place(**raw["place"])
    made.related = [Place(**one) for one in raw["related"]]
    made.sites = {role: Place(**one) for role, one in raw["sites"].items()}
    return made
