"""Pairs of programs that others wrote: the right rule on the right line, nothing on the fixed ones.

They are not part of the repository: ``LOOPWRIGHT_CASES`` names their folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from checker.cases import judge, of_several_processes
from checker.watched import watch

HERE = Path(os.environ.get("LOOPWRIGHT_CASES", "/nonexistent"))
CASES = sorted(path.parent for path in HERE.glob("check*/*/case.toml"))
MANY = [case for case in CASES if of_several_processes(case)]
ALONE = [case for case in CASES if case not in MANY]

pytestmark = pytest.mark.skipif(not CASES, reason="LOOPWRIGHT_CASES names no folder with cases")


def programs(cases):
    """(case, program) of each."""
    return [pytest.param(case, file, id=f"{case.name}/{file.stem}")
            for case in cases for file in sorted(case.glob("*.py"))]  # fmt: skip


@pytest.mark.parametrize(("case", "file"), programs(ALONE))
def test_case(case, file, run_program, tmp_path):
    """One program in one process."""
    seen = watch(run_program, file, tmp_path / "found.json")
    assert seen.problems == []
    judge(case, file, [(one.rule, one.severity, one.line) for one in seen.findings])


@pytest.mark.long
@pytest.mark.parametrize(("case", "file"), programs(MANY))
def test_case_of_several_processes(case, file, run_cli, tmp_path):
    """A program that starts processes, through the command line."""
    done = run_cli("check", f"--json={tmp_path / 'found.json'}", str(file), cwd=tmp_path)
    assert done.rc == int(file.stem == "buggy"), done.err
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    judge(case, file, [(one["rule"], one["severity"], one["line"]) for one in found])
