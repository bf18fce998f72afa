"""A program run observed in a fork of the warmed process, and what was found in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import torch

PROGRAMS = Path(__file__).parents[1] / "programs"
RUN = """
import dataclasses, json, os, runpy, sys, traceback
from loopwright.checker.session import Session
path, out = sys.argv[1:3]
session = Session()
session.start()
sys.argv = [path]
sys.path[0] = os.path.dirname(path)
error = None
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit:
    pass
except BaseException:
    error = traceback.format_exc()
found = session.end(ended_well=error is None)
plain = session.plain()
record = {"findings": [dataclasses.asdict(one) for one in found], **plain}
record["problems"] = [*plain["notes"], *filter(None, [error])]
with open(out, "w") as file:
    json.dump(record, file)
"""


class Found(NamedTuple):
    """One finding, in short."""

    rule: str
    severity: str
    file: str
    line: int
    message: str


class Watched(NamedTuple):
    """What a program's observation came to."""

    findings: list[Found]
    steps: int
    problems: list[str]


def watch(run_program, path, out) -> Watched:
    """Run the program at ``path`` observed."""
    done = run_program(["-c", RUN, str(path), str(out)], cwd=out.parent)
    assert done.rc == 0, done.err
    seen = json.loads(out.read_text())
    found = [
        Found(
            one["rule"],
            one["severity"],
            one["place"]["file"],
            one["place"]["line"],
            one["message"],
        )
        for one in seen["findings"]
    ]
    return Watched(found, seen["steps"], seen["problems"])


def expected(path: Path) -> list[tuple[str, str]]:
    """The header's ``# expect: RULE @ TEXT OF THE LINE``; empty for ``# expect: nothing``."""
    (text,) = [
        line.removeprefix("# expect:").strip()
        for line in path.read_text().splitlines()[:3]
        if line.startswith("# expect:")
    ]
    if text == "nothing":
        return []
    rule, _, line = text.partition(" @ ")
    return [(rule, line)]


def says(path: Path) -> str:
    """The header's ``# says: TEXT``: what the finding's message has in it."""
    head = path.read_text().splitlines()[:3]
    return next(
        (one.removeprefix("# says:").strip() for one in head if one.startswith("# says:")), ""
    )


def denormals_are_slow() -> bool:
    """Whether this processor takes twice as long for them; some do not mind."""
    ordinary = torch.ones(30_000)
    shortest = []
    for numbers in (ordinary, 1e-40 * ordinary):
        times = []
        for _ in range(9):
            began = time.perf_counter()
            torch.mul(numbers, 0.9)
            times.append(time.perf_counter() - began)
        shortest.append(min(times))
    return shortest[1] > 2 * shortest[0]
