"""The user's own source files: which belong to a run, and what is said when one has changed."""

from __future__ import annotations

import json
import subprocess

import pytest

TRAIN = """
import sys
import torch
import loopwright as lw
import model

net = model.make()
run = lw.Run(sys.argv[1], model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False)
for step in run.loop([torch.ones(2, 3)] * 3, epochs=int(sys.argv[2])):
    step.backward(run.model(step.batch).square().mean())
    step.update()
print("trained", run.totals["turns"])
"""
MODEL = (
    "import torch\n\n\ndef make():\n    torch.manual_seed(0)\n    return torch.nn.Linear(3, 1)\n"
)


@pytest.fixture
def project(tmp_path):
    """Give a folder with a program and a module of its own, and one file that it does not import."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "model.py").write_text(MODEL)
    (folder / "notes.py").write_text("")
    return folder


def asked(folder):
    """What run.json says."""
    return json.loads((folder / "run.json").read_text())


def test_the_programs_own_files(project, run_program, tmp_path):
    """run.json names the program and what it imports beside it, not libraries, nor us."""
    rc, _, err = run_program([project / "train.py", "out", "1"], cwd=tmp_path)
    assert rc == 0, err
    assert set(asked(tmp_path / "out")["sources"]) == {"train.py", "model.py"}


def test_a_changed_file_is_a_warning(project, run_program, tmp_path):
    """The same command with changed code goes on, and says which file it is; unchanged it says nothing."""
    words = [project / "train.py", "out"]
    assert run_program([*words, "1"], cwd=tmp_path).rc == 0
    rc, out, err = run_program([*words, "2"], cwd=tmp_path)
    assert (rc, out) == (0, "trained 6\n"), err
    assert "changed-source" not in err
    (project / "model.py").write_text(MODEL + "# a note\n")
    (project / "notes.py").write_text("# not part of the run\n")
    rc, out, err = run_program([*words, "3"], cwd=tmp_path)
    assert (rc, out) == (0, "trained 9\n"), err
    assert "model.py has changed since this run began" in err
    assert err.count("[changed-source]") == 1


def test_a_recipes_file(run_cli, tmp_path):
    """A recipe's file is a source like any other; of a built-in recipe there is none."""
    assert run_cli("new", "mine.py", cwd=tmp_path).rc == 0
    words = ["train", "mine.py", "--out", "out", "--steps"]
    assert run_cli(*words, "2", cwd=tmp_path).rc == 0
    assert list(asked(tmp_path / "out")["sources"]) == ["mine.py"]
    with (tmp_path / "mine.py").open("a") as file:
        file.write("# a note\n")
    rc, _, err = run_cli(*words, "4", cwd=tmp_path)
    assert rc == 0, err
    assert "mine.py has changed since this run began" in err
    assert run_cli("train", "digits", "--out", "digits", "--steps", "2", cwd=tmp_path).rc == 0
    assert asked(tmp_path / "digits")["sources"] == {}


def test_git_state_of_the_programs_folder(project, run_program, tmp_path):
    """The commit is that of the program's folder, wherever the command was given; changes are counted."""

    def git(*words):
        names = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
        done = subprocess.run(
            ["git", *names, *words], cwd=project, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert run_program([project / "train.py", "clean", "1"], cwd=tmp_path).rc == 0
    commit = git("rev-parse", "HEAD")
    assert asked(tmp_path / "clean")["environment"]["git"] == {"commit": commit, "changed_files": 0}
    (project / "model.py").write_text(MODEL + "# a note\n")
    assert run_program([project / "train.py", "changed", "1"], cwd=tmp_path).rc == 0
    assert asked(tmp_path / "changed")["environment"]["git"]["changed_files"] == 1
