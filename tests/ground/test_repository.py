"""The repository itself: house rules that a glance can miss."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def relative(file):
    """A test id."""
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", SOURCES, ids=relative)
def test_files_hold_one_concept(file):
    """No source file is longer than 500 lines; ask what the second concept is."""
    assert len(file.read_text().splitlines()) <= 500


@pytest.mark.parametrize("file", SOURCES, ids=relative)
def test_nothing_unpickles(file):
    """No pickle is read or written: a poisoned file runs no code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not {"pickle", "cloudpickle", "dill", "shelve"} & {
                alias.name for alias in node.names
            }
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("pickle", "cloudpickle", "dill", "shelve")
        if isinstance(node, ast.Attribute) and node.attr == "load":
            assert ast.unparse(node.value) not in ("torch", "pickle")


@pytest.mark.parametrize("file", TESTS, ids=relative)
def test_tests_are_sentences(file):
    """Every test says in its docstring what it expects."""
    tree = ast.parse(file.read_text())
    silent = [
        f"{relative(file)}:{node.lineno} {node.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


MODULES = {"pyyaml": "yaml", "pillow": "PIL"}
"""Distributions whose module has another name."""


def declared(lines):
    """The modules of a list of requirements."""
    names = [re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in lines]
    return {MODULES.get(name, name) for name in names}


def test_dependencies_are_used_and_declared():
    """Every base dependency is imported somewhere; every import is Python's, ours, or declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = declared(project["dependencies"])
    groups = project["optional-dependencies"]
    extras = set.union(*(declared(groups[name]) for name in set(groups) - {"test", "docs", "dev"}))
    imported = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    assert base <= imported
    assert imported - base - extras - sys.stdlib_module_names <= {
        "loopwright",
        "markupsafe",  # jinja2 brings it
        "pygments",  # rich brings it
        "IPython",  # only where a notebook runs already
        "pytest",  # only where pytest itself loads the plugin
    }


def test_development_versions_are_pinned():
    """constraints.txt pins exact versions, torch among them, and names no place to get them from."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*( ;.*)?", pin) for pin in pins)


def test_ci_runs_the_test_line_of_the_readme():
    """What is checked on every change is the very line that the README gives to a newcomer."""
    line = "python3 start.py test"
    assert line in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(f"exec {line}")


def test_start_is_plain_python():
    """start.py parses on old Pythons too, so that it can say that they are too old."""
    ast.parse((ROOT / "start.py").read_text(), feature_version=(3, 7))


def test_nothing_that_a_command_has_written():
    """At the top stand the files of the project alone; a page of ``explain`` was among them once."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {name for name in listed.stdout.splitlines() if "/" not in name}
    kinds = {Path(name).suffix for name in top if not name.startswith(".")}
    assert kinds <= {"", ".md", ".toml", ".txt", ".py", ".yml"}, sorted(top)
    assert [name for name in top if name.endswith(".py")] == ["start.py"]
    assert [name for name in top if name.endswith(".txt")] == ["constraints.txt"]


def test_no_large_file():
    """No tracked file is over 300 kB."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    assert [str(f) for f in files if f.is_file() and f.stat().st_size > 307_200] == []
