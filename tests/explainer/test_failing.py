"""Whatever fails in the explainer, the program never notices."""

from __future__ import annotations

import json

import pytest

from explainer.test_same_program import equal, everything, plain
from loopwright.explainer.build import build
from loopwright.explainer.effects import graph, state
from loopwright.explainer.follow import visits
from loopwright.explainer.record import Recording

PLACES = [
    (state.State, "changes", 5),
    (state.State, "plan", 1),
    (visits.Visit, "look", 3),
    (graph, "capture", 1),
    (Recording, "_begin_turn", 2),
    (Recording, "note", 4),
]


@pytest.mark.parametrize(("owner", "name", "at"), PLACES, ids=[one[1] for one in PLACES])
def test_a_failing_explainer_harms_nobody(owner, name, at, monkeypatch, capsys):
    """The program ends as it would alone; one line on stderr and a note say what happened."""
    before = everything(plain)
    original, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            raise ZeroDivisionError("a mistake of ours")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    recording = Recording()
    recording.start()
    try:
        left = everything(plain)
    finally:
        recording.stop()
    assert {one for one in before if not equal(before[one], left[one])} == set()
    assert len(calls) >= at
    assert "the program goes on" in capsys.readouterr().err
    notes = build(recording).notes
    assert any("a mistake of ours" in note for note in notes)


def test_an_exception_of_the_program_is_its_own(run_cli, tmp_path):
    """Its traceback names the program's frames alone, and its exit code is kept."""
    text = "import torch\nw = torch.ones(2, requires_grad=True)\nw.sum().backward()\nraise KeyError('mine')\n"
    (tmp_path / "train.py").write_text(text)
    done = run_cli("explain", "--json=out.json", "train.py", cwd=tmp_path, warm_children=True)
    assert done.rc == 1
    assert "KeyError: 'mine'" in done.err
    assert done.err.count('File "') == 1
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["program"]["exception"] == "KeyError"
    assert record["steps"]


def test_ended_at_a_statement_of_its_own(run_cli, tmp_path):
    """A program that would go on for ever is ended once its loop is recorded; its finally and atexit run."""
    text = """\
import atexit, torch
atexit.register(print, "at exit")
w = torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
try:
    while True:
        optimizer.zero_grad()
        w.square().sum().backward()
        optimizer.step()
finally:
    print("finally")
"""
    (tmp_path / "train.py").write_text(text)
    words = ("--wait", "0", "--html", "none", "train.py")
    done = run_cli("explain", *words, cwd=tmp_path, warm_children=True)
    assert done.rc == 0, done.err
    assert done.out.startswith("finally\nat exit\n")
    said = " ".join(done.out.split())
    assert (
        "ended once its loops had been recorded, in turn 23 of the training loop (--whole" in said
    )


def test_a_program_that_is_traced_already(run_program, tmp_path):
    """Under a debugger there is no line level, and the note says so."""
    text = """\
import sys, json
sys.settrace(lambda *_: None)
import torch
from loopwright.explainer.record import Recording
recording = Recording()
recording.start()
w = torch.ones(2, requires_grad=True)
w.sum().backward()
recording.stop()
print(json.dumps(recording.notes))
"""
    done = run_program(["-c", text], cwd=tmp_path)
    assert done.rc == 0, done.err
    assert "traced already" in json.loads(done.out)[0]
