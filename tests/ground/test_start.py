"""What start.py says and does before it installs anything (the installation is what .ci/run does)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "start.py"


@pytest.fixture
def start(tmp_path):
    """Give start.py as a module whose folder is an empty one, with pip and venv replaced by notes."""
    spec = importlib.util.spec_from_file_location("start_under_test", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = tmp_path
    module.VENV = tmp_path / ".venv"
    module.BIN = module.VENV / "bin"
    module.PYTHON = module.BIN / "python"
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    (tmp_path / "start.py").write_text(FILE.read_text())
    module.done = []

    def make_venv():
        module.BIN.mkdir(parents=True, exist_ok=True)
        module.PYTHON.touch()
        module.done.append("venv")

    module.make_venv = make_venv
    module.pip = lambda *words: module.done.append(" ".join(words).replace(str(tmp_path), "."))
    return module


def test_help():
    """Without words it explains itself and installs nothing."""
    done = subprocess.run([sys.executable, FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "python3 start.py train digits" in done.stdout


def test_torch_first_then_the_package(start):
    """Torch is installed by its exact version before anything that would pull in another build."""
    start.prepare("base")
    assert start.done == ["venv", "torch==2.13.0", "-e ."]


def test_second_call_does_nothing(start):
    """What is set up is not set up again; development covers plain use."""
    start.prepare("dev")
    start.done.clear()
    start.prepare("dev")
    start.prepare("base")
    assert start.done == []


def test_base_is_not_enough_for_tests(start):
    """Running the tests after training installs what is missing."""
    start.prepare("base")
    start.done.clear()
    start.prepare("dev")
    assert start.done[-1] == "-e .[dev]"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "start.py"])
def test_changed_file(start, name):
    """A change in what the set-up was made from makes it anew."""
    start.prepare("base")
    start.done.clear()
    with (start.ROOT / name).open("a") as file:
        file.write("# changed\n")
    start.prepare("base")
    assert start.done != []


def test_failure_leaves_no_stamp(start):
    """A set-up that failed half-way is tried again by the same line."""

    def refuse(*words):
        raise start.SetupError("no network", "find one")

    good, start.pip = start.pip, refuse
    with pytest.raises(start.SetupError):
        start.prepare("base")
    start.pip = good
    start.done.clear()
    start.prepare("base")
    assert start.done == ["venv", "torch==2.13.0", "-e ."]


def test_two_at_once(start):
    """Of two set-ups at the same time one works and the other waits and finds it done."""
    threads = [threading.Thread(target=start.prepare, args=("base",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert start.done == ["venv", "torch==2.13.0", "-e ."]


def test_old_python(start, monkeypatch, capsys):
    """A Python that is too old is told so, with the line to write instead."""
    monkeypatch.setattr(start.sys, "version_info", (3, 9, 1))
    assert start.main(["train", "digits"]) == 2
    assert "Python 3.9 is too old" in capsys.readouterr().err


def test_python_without_venv(start, monkeypatch, capsys):
    """A Python that cannot make virtual environments is an error that names the package to install."""
    spec = importlib.util.spec_from_file_location("start_again", FILE)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    again.ROOT, again.VENV, again.PYTHON = start.ROOT, start.VENV, start.PYTHON
    broken = start.ROOT / "broken-python"
    broken.write_text("#!/bin/sh\necho 'No module named venv' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(again.sys, "executable", str(broken))
    assert again.main(["train", "digits"]) == 2
    assert "No module named venv" in capsys.readouterr().err
