"""Every rule finds its mistake on the right line, and says nothing about correct programs.

``tests/programs/RULE`` holds programs with the mistake (``*faulty.py``) and the same without it
(``*healthy.py``), ``tests/programs/clean`` correct ones that look wrong at first sight.
"""

from __future__ import annotations

import pytest

from checker.watched import PROGRAMS, denormals_are_slow, expected, says, watch
from loopwright.checker import registry

FILES = sorted(
    file for file in PROGRAMS.rglob("*.py") if file.parent.name not in ("ranks", "loops")
)
NEEDS_RANKS = {
    "ddp-bypassed",
    "ddp-missing-set-epoch",
    "ddp-duplicate-data",
    "collective-mismatch",
    "ranks-diverge",
}


def first_of_its_kind(path):
    """Whether it is the first faulty or the first sound program of a rule; clean ones are all of a kind."""
    rule = path.parent
    alike = [
        one
        for one in FILES
        if one.parent == rule and ("faulty" in one.stem) == ("faulty" in path.stem)
    ]
    return rule.name == "clean" or alike[0] == path


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=f"{path.parent.name}/{path.stem}",
            marks=() if first_of_its_kind(path) else pytest.mark.long,
        )
        for path in FILES
    ],
)  # fmt: skip
def test_program(path, run_program, tmp_path):
    """The expected finding is there with its figures, and no other error or warning."""
    seen = watch(run_program, path, tmp_path / "found.json")
    assert seen.problems == []
    lines = path.read_text().splitlines()
    wanted = expected(path)
    if (
        not seen.findings
        and "denormal-optimizer-state" in dict(wanted)
        and not denormals_are_slow()
    ):
        pytest.skip("this processor multiplies denormals as fast as other numbers")
    for rule, text in wanted:
        hits = [one for one in seen.findings if one.rule == rule and text in lines[one.line - 1]]
        assert hits, f"{rule} was not found at {text!r}: {seen.findings}"
        assert [one for one in hits if says(path) in one.message], hits
    rules = {rule for rule, _ in wanted}
    others = [one for one in seen.findings if one.rule not in rules and one.severity != "hint"]
    assert others == []
    if not wanted and path.parent.name != "clean":
        assert [one for one in seen.findings if one.rule == path.parent.name] == []


def test_every_rule_has_its_programs():
    """Each rule that one process can see has a faulty program and a healthy one."""
    for name in registry.names():
        if name not in NEEDS_RANKS:
            there = {path.stem.rpartition("_")[2] for path in (PROGRAMS / name).glob("*.py")}
            assert there >= {"faulty", "healthy"}, name


def test_every_rule_has_its_page():
    """Each rule has a page that shows it before and after, and no page is left over."""
    folder = PROGRAMS.parents[1] / "docs" / "rules"
    pages = {file.stem: file.read_text() for file in folder.glob("*.md")}
    assert set(pages) - {"index"} == set(registry.names())
    for name in registry.names():
        assert pages[name].startswith(f"# {name}\n")
        assert "```diff\n-" in pages[name]
        assert f"ignore[{name}]" in pages[name]
        assert f"({name}.md)" in pages["index"]
