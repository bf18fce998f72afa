"""Brings the processes of one program together: the same finding of several ranks is one finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    found += across_ranks([one for one in processes if one["rank"] is not None], found)
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


def across_ranks(processes: list[dict[str, Any]], found: list[Finding]) -> list[Finding]:
    """What only the ranks together show: equal batches, different weights."""
    ranks = [one["ranks"] for one in processes]
    if len({one["rank"] for one in ranks}) < 2 or not all(one["prints"] for one in ranks):
        return []
    more = []
    numbers = sorted(one["rank"] for one in ranks)
    site = next((one.get("loader") for one in ranks if one.get("loader")), None)
    batches = [tuple(one["batches"]) for one in ranks]
    if site and len(batches[0]) >= 2 and len(set(batches)) == 1:
        more.append(
            Finding(
                "ddp-duplicate-data",
                "error",
                Place(**site),
                f"the first {len(batches[0])} batches were equal on all {len(ranks)} ranks "
                f"(sampler: {ranks[0]['sampler']})",
                why=f"every rank computes the same gradient: {len(ranks)} processes do the work of one",
                fix="DataLoader(dataset, sampler=DistributedSampler(dataset))",
                ranks=numbers,
            )
        )
    if any(one.rule == "ddp-bypassed" for one in found):
        return more
    wrapped = next((one.get("wrapped") for one in ranks if one.get("wrapped")), None)
    for prints in zip(*(one["prints"] for one in ranks), strict=False):
        steps = sorted(set.intersection(*(set(map(int, one)) for one in prints)))
        differ = [step for step in steps if len({one[str(step)] for one in prints}) > 1]
        if (
            wrapped
            and len(steps) >= 3
            and differ
            and differ == steps[-len(differ) :]
            and len(differ) >= 3
        ):
            more.append(
                Finding(
                    "ranks-diverge",
                    "error",
                    Place(**wrapped),
                    f"the weights of the ranks differ since step {differ[0]} "
                    f"(looked at steps {', '.join(map(str, steps))})",
                    why="the ranks train different models, and only one of them is saved",
                    fix="train through the wrapper and change all ranks' weights alike;\n"
                    "or dist.broadcast(p.data, src=0) for every parameter, before the first step",
                    count=len(differ),
                    ranks=numbers,
                )
            )
    return more
