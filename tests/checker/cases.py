"""Pairs of programs with a ``case.toml``: the rule, the line, and what else would be right."""

from __future__ import annotations

import tomllib

MANY = ("mp.spawn", "multiprocessing")
"""What a program says that starts processes."""


def of_several_processes(case):
    """Whether the programs of a case start processes of their own."""
    return any(word in file.read_text() for file in case.glob("*.py") for word in MANY)


def judge(case, file, findings):
    """A faulty program needs one of its rules on one of its lines; others nothing but hints.

    Of a rule whose findings are hints, a healthy twin must have none either.
    """
    told = tomllib.loads((case / "case.toml").read_text())
    rules = {told.get("rule"), *told.get("also", [])}
    if file.stem == "buggy":
        lines = {told["line"], *told.get("lines", [])}
        assert any(rule in rules and line in lines for rule, _, line in findings), findings
        return
    about = rules if told.get("severity") == "hint" else ()
    assert [one for one in findings if one[1] != "hint" or one[0] in about] == []
