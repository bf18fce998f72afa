"""True processes: ``python -m loopwright`` and the console script's function, and what they import."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forked import SOURCE
from loopwright import __version__


def python(*words, cwd):
    """Run ``python WORDS`` in a process of its own."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_version(tmp_path):
    """--version prints the version alone."""
    done = python("-m", "loopwright", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")


def test_mistake(tmp_path):
    """A mistake's exit code reaches the shell."""
    done = python("-m", "loopwright", "trian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "hint: did you mean 'train'?"


def test_train(tmp_path):
    """A whole training run from a fresh interpreter."""
    done = python("-m", "loopwright", "train", "digits", "--steps", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits" / "1" / "report.html").exists()


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["recipes"], ["train", "--help"], ["trian"], ["train", "digts"],
     ["new", "mine.py"], ["evaluate", "--help"], ["check", "-c", "1"], ["explain", "-c", "1"]],
)  # fmt: skip
def test_no_torch(words, tmp_path):
    """What needs no torch does not import it."""
    program = (
        "import sys\n"
        "from loopwright.cli.main import main\n"
        f"main({words!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
