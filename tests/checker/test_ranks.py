"""Mistakes of distributed training, in two processes, merged into one report."""

from __future__ import annotations

import json

import pytest

from checker.watched import PROGRAMS

pytestmark = pytest.mark.long
PROGRAM = PROGRAMS / "ranks" / "training.py"
LINES = {
    "ddp-bypassed": "model.module(inputs)",
    "ddp-missing-set-epoch": "in loader:",
    "ddp-duplicate-data": "in loader:",
    "ranks-diverge": "model = DDP(",
}


@pytest.mark.parametrize("mistake", [*LINES, "nothing"])
def test_two_ranks(run_cli, tmp_path, mistake):
    """Each mistake is found once, at its line, by both ranks together; none without one."""
    found = tmp_path / "found.json"
    done = run_cli("check", f"--json={found}", PROGRAM, mistake, cwd=tmp_path)
    record = json.loads(found.read_text())
    assert record["observed"]["processes"] >= 2
    assert record["observed"]["steps"] in (24, 48)
    told = [
        (one["rule"], one["line"], sorted(one["ranks"]))
        for one in record["findings"]
        if one["severity"] != "hint"
    ]
    if mistake == "nothing":
        assert told == []
        assert done.rc == 0
        return
    ((rule, line, ranks),) = told
    assert rule == mistake
    assert LINES[mistake] in PROGRAM.read_text().splitlines()[line - 1]
    assert ranks == [0, 1]
    assert done.rc == 1
