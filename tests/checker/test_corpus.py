"""Programs by somebody who knew the mistakes and no rule's code: right rule and line, healthy ones silent.

``tests/corpus`` holds pairs; ``clean`` in it correct programs and, in ``INDEX.tsv``, what each looks
like.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checker.cases import judge, of_several_processes
from checker.watched import watch

CORPUS = Path(__file__).parents[1] / "corpus"
CASES = sorted(file.parent for file in CORPUS.glob("*/case.toml"))
QUICK = ("043-", "110-")
CLEAN = sorted((CORPUS / "clean").glob("*.py"))
QUICK_CLEAN = ("004-", "041-")


def programs(*, many):
    """(case, program) of each, the quick ones unmarked."""
    found = []
    for case in CASES:
        if of_several_processes(case) is not many:
            continue
        marks = [] if case.name.startswith(QUICK) else [pytest.mark.long]
        for name in ("buggy", "fixed"):
            file = case / f"{name}.py"
            found.append(pytest.param(case, file, id=f"{case.name}/{name}", marks=marks))
    return found


@pytest.mark.parametrize(("case", "file"), programs(many=False))
def test_program(case, file, run_program, tmp_path):
    """One program in one process; a faulty one may end with torch's own error."""
    seen = watch(run_program, file, tmp_path / "found.json")
    if file.stem == "fixed":
        assert seen.problems == []
    judge(case, file, [(one.rule, one.severity, one.line) for one in seen.findings])


@pytest.mark.parametrize(("case", "file"), programs(many=True))
def test_program_of_several_processes(case, file, run_cli, tmp_path):
    """A program that starts processes, through the command line."""
    run_cli("check", f"--json={tmp_path / 'found.json'}", file, cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    judge(case, file, [(one["rule"], one["severity"], one["line"]) for one in found])


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            one,
            id=one.stem,
            marks=[] if one.name.startswith(QUICK_CLEAN) else [pytest.mark.long],
        )
        for one in CLEAN
    ],
)
def test_clean_program(file, run_cli, tmp_path):
    """A correct program that looks wrong: no error and no warning, and its exit code is its own."""
    done = run_cli("check", f"--json={tmp_path / 'found.json'}", file, cwd=tmp_path)
    told = json.loads((tmp_path / "found.json").read_text())
    assert [one for one in told["findings"] if one["severity"] != "hint"] == []
    assert done.rc == told["program"]["exit_code"] == 0
