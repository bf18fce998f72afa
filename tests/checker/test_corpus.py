"""Pairs of programs by somebody who knew the mistakes and no rule's code: right rule and line, twins silent.

``tests/corpus`` holds them. What a rule cannot see yet stands in ``MISSED``, with the reason; when one of
those is found, this test says so.
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
MISSED = {
    "064": "both views are targets of each other, as in losses where that is meant",
    "066": "an average kept in a dict of tensors is nobody's module",
    "073": "the dropout of scaled_dot_product_attention is inside a C function",
    "086": "no loss function is given the probabilities",
    "094": "a convolution that looks ahead has no attention weights",
    "098": "what a view mixes is not looked at",
    "099": "what a view mixes is not looked at",
    "139": "found where the layer is made, not where another is called in its place",
}


def programs(*, many):
    """(case, program) of each, the quick ones unmarked."""
    found = []
    for case in CASES:
        if of_several_processes(case) is not many:
            continue
        marks = [] if case.name.startswith(QUICK) else [pytest.mark.long]
        for name in ("buggy", "fixed"):
            why = MISSED.get(case.name[:3]) if name == "buggy" else None
            known = [pytest.mark.xfail(reason=why, strict=True)] if why else []
            file = case / f"{name}.py"
            found.append(pytest.param(case, file, id=f"{case.name}/{name}", marks=marks + known))
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
