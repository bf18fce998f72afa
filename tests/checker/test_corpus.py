"""Programs by somebody who knew the mistakes and no rule's code: right rule and line, healthy ones silent.

``tests/corpus`` holds pairs; ``clean`` in it correct programs and, in ``INDEX.tsv``, what each looks
like.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from checker.cases import judge, of_several_processes
from checker.watched import watch
from loopwright.checker import registry

CORPUS = Path(__file__).parents[1] / "corpus"
CASES = sorted(file.parent for file in CORPUS.glob("*/case.toml"))
QUICK = ("043-", "110-")
MILDER = {
    "059-module-created-in-forward-dropout": "warning",
    "143-best-state-aliased-cpu-copy-lora": "warning",
}
"""Findings that are less than their rule's usual: a layer without weights has none that are not trained, and
what is loaded from a model into itself restores nothing, but breaks nothing either.
"""
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
    found = [(one.rule, one.severity, one.line) for one in seen.findings]
    judge(case, file, found)
    as_severe(case, file, found)


@pytest.mark.parametrize(("case", "file"), programs(many=True))
def test_program_of_several_processes(case, file, run_cli, tmp_path):
    """A program that starts processes, through the command line."""
    run_cli("check", f"--json={tmp_path / 'found.json'}", file, cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    listed = [(one["rule"], one["severity"], one["line"]) for one in found]
    judge(case, file, listed)
    as_severe(case, file, listed)


def as_severe(case, file, findings):
    """A finding of the case's own rule is as severe as the case says: a hint fails no build."""
    told = tomllib.loads((case / "case.toml").read_text())
    own = {severity for rule, severity, _ in findings if rule == told["rule"]}
    assert file.stem == "fixed" or own <= {told["severity"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_severity_of_a_case_is_its_rules(case):
    """What a pair says of its mistake is what the rule says of it."""
    told = tomllib.loads((case / "case.toml").read_text())
    assert told["severity"] == MILDER.get(case.name, registry.severity(told["rule"]))


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
    done = run_cli(
        "check", f"--json={tmp_path / 'found.json'}", file, cwd=tmp_path, warm_children=True
    )
    told = json.loads((tmp_path / "found.json").read_text())
    assert [one for one in told["findings"] if one["severity"] != "hint"] == []
    assert done.rc == told["program"]["exit_code"] == 0
