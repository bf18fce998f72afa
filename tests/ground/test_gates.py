"""The static checks and the documentation's build, as `python3 start.py lint` and `docs` run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATES = {
    "ruff": ["ruff", "check", "--no-cache"],
    "format": ["ruff", "format", "--check", "--no-cache"],
    "codespell": ["codespell"],
    "pyrefly": ["pyrefly", "check", "--python-interpreter-path", sys.executable],
}


def run(command, **rest):
    """Run a tool that is installed beside this Python; skip where it is not."""
    tool = shutil.which(command[0], path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False, **rest
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", GATES)
def test_gate(name):
    """The check finds nothing."""
    code, said = run(GATES[name])
    assert code == 0, said


def test_documentation_builds(tmp_path):
    """The documentation builds without a warning: every page, link, anchor and reference is there."""
    code, said = run(["mkdocs", "build", "--strict", "--site-dir", str(tmp_path)])
    assert code == 0, said
    assert (tmp_path / "api" / "train.html").is_file()
