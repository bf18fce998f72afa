"""The table of mistakes: every fault test is in it, and nothing in it is stale or vain."""

from __future__ import annotations

import ast
from pathlib import Path

import mutants
from mutant_table import MUTANTS, Mutant

HERE = Path(__file__).parent
OF_THE_TESTS_THEMSELVES = {
    "test_shim.py",
    "test_mutants.py",
    "test_power.py::test_every_choice_is_made",
    "test_write_order.py::test_the_log_itself",
    "test_damage.py::test_the_folder_has_all_kinds_of_files",
    "test_kills.py::test_the_control",
    "test_kills.py::test_the_same_program_twice",
    "test_kills.py::test_settings_are_drawn_from_the_full_product",
    "test_kills.py::test_verdict_all_well",
    "test_kills.py::test_verdict_explained",
    "test_kills.py::test_verdict_wrong",
    "test_kills.py::test_verdict_empty_bins",
    "test_two_processes.py::test_workers_end_by_themselves",  # torch's doing
}
"""Tests (or whole files) that look at the tools, not at the engine."""


def fault_tests(*, long=False):
    """Every test of this folder that looks at the engine; by default those of the quick suite."""
    for file in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [ast.unparse(one) for one in node.decorator_list]
                name = f"{file.name}::{node.name}"
                if (long or "pytest.mark.long" not in marks) and not {
                    file.name,
                    name,
                } & OF_THE_TESTS_THEMSELVES:
                    yield name


def test_every_fault_test_has_its_mistake():
    """A fault test that no mistake makes fail would prove nothing: each is named by a mutant."""
    named = {node.partition("[")[0] for mutant in MUTANTS for node in mutant.caught_by}
    assert set(fault_tests()) <= named <= set(fault_tests(long=True))


def test_the_rows():
    """Names are told apart, every mistake has a test, and there are at least 25."""
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 25
    assert all(mutant.caught_by and mutant.old != mutant.new for mutant in MUTANTS)


def test_the_rows_fit_the_engine():
    """The text of every row stands in its file exactly once."""
    assert [text for mutant in MUTANTS if (text := mutants.find(mutants.ROOT, mutant))] == []


def test_a_stale_row_is_an_error(tmp_path):
    """A text that is not there, or is there twice, is not applied but reported."""
    (tmp_path / "src" / "loopwright").mkdir(parents=True)
    (tmp_path / "src" / "loopwright" / "a.py").write_text("x = 1\nx = 1\n")
    twice = Mutant("m", "a.py", "x = 1", "x = 2", ("t",))
    gone = Mutant("m", "a.py", "y", "z", ("t",))
    nowhere = Mutant("m", "b.py", "y", "z", ("t",))
    for mutant, said in ((twice, "2 times"), (gone, "0 times"), (nowhere, "no file b.py")):
        assert said in mutants.find(tmp_path, mutant)
        assert mutants.try_mutant(tmp_path, mutant).verdict == "ERROR"
    assert (tmp_path / "src" / "loopwright" / "a.py").read_text() == "x = 1\nx = 1\n"


def test_survivors_are_told():
    """A mutant is caught when each of its tests failed, whatever the others did; parameters count."""
    found = {"a.py::t[1]": True, "a.py::t[2]": False, "a.py::tt": True, "b.py::u": True}
    assert mutants.not_failing(("a.py::t",), found) == []
    assert mutants.not_failing(("a.py::t[1]", "a.py::t[2]"), found) == ["a.py::t[1]"]
    assert mutants.not_failing(("b.py::u", "c.py::v"), found) == ["b.py::u", "c.py::v"]
    survived = mutants.Outcome(Mutant("m", "f.py", "a", "b", ("b.py::u",)), 1.0, ["b.py::u"])
    assert survived.verdict == "SURVIVED"
    assert "passes all the same: b.py::u" in mutants.line(survived)
