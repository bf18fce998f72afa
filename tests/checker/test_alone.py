"""Ranks that nothing joins are told; ranks that train side by side on purpose are left alone."""

from __future__ import annotations

import copy
import json

import pytest

from checker.watched import PROGRAMS
from loopwright.checker.ranks import alone

PROGRAM = PROGRAMS / "ranks" / "alone.py"
TOLD = {
    "rank": 0, "size": 2, "steps": 24, "settings": "[('SGD', 0.1)]", "saved": ["/here/model.pt"], "kept": 1,
    "unsaved": False, "prints": {"1": 1, "2": 2, "4": 3, "8": 4},
    "model": {"file": "train.py", "line": 7},
}  # fmt: skip
SILENT = (
    "ddp", "comm hook", "fsdp", "tensor parallel", "gradients by hand", "gathered by hand", "a server",
    "federated", "federated by objects", "federated by files", "local sgd", "shared memory",
    "sweep", "sweep over shares", "ensemble", "a file each", "one trains", "no group", "another group",
)  # fmt: skip


def processes(**of_the_second):
    """Two ranks of which the first one saves."""
    second = copy.deepcopy(TOLD) | {"rank": 1, "saved": [], "kept": 0}
    second["prints"] = {step: -number for step, number in TOLD["prints"].items()}
    around = {"met": {"MASTER_PORT": "1"}, "began": 0.0, "ended": 9.0}
    return [{**around, "alone": TOLD}, {**around, "alone": second | of_the_second}]


def test_ranks_that_never_joined():
    """Of two ranks that train the same, and exchange nothing, the weights of one are kept."""
    (found,) = alone.compared(processes())
    assert (found.rule, found.severity, found.place.line) == ("ranks-diverge", "error", 7)
    assert "in 24 steps: each of the 2 ranks trains a model of its own" in found.message
    assert found.ranks == [0, 1]


@pytest.mark.parametrize(
    "another",
    [
        {"settings": "[('SGD', 0.05)]"},
        {"steps": 25},
        {"prints": TOLD["prints"]},
        {"prints": {"1": 5, "2": 6, "4": 7, "8": 4}},
        {"prints": {"1": 5, "2": 6}},
        {"saved": ["/here/model-1.pt"], "kept": 1},
        {"saved": ["/here/model.pt"], "kept": 2, "unsaved": True},
        {"rank": 0},
    ],
)
def test_ranks_that_may_mean_it(another):
    """Other settings, equal weights, weights that the other rank keeps too: no word."""
    assert alone.compared(processes(**another)) == []


def test_a_rank_that_is_not_known():
    """Where one of the ranks may have been joined, or is missing, nothing is said of the others."""
    first, second = processes()
    assert alone.compared([first]) == []
    assert alone.compared([first, {**second, "alone": None}]) == []


@pytest.fixture
def check(run_cli, tmp_path):
    """``check(kind)``: findings that are no hints, and the command's end."""

    def run(kind):
        found = tmp_path / "found.json"
        done = run_cli("check", f"--json={found}", PROGRAM, kind, cwd=tmp_path, timeout=120)
        told = json.loads(found.read_text())["findings"]
        assert json.loads(found.read_text())["notes"] == []
        return [one for one in told if one["severity"] != "hint"], done

    return run


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "severity", "says"),
    [
        ("never joined", "error", "the weights of rank 0 alone are kept"),
        ("over each other", "warning", "model.pt, and the last one is kept"),
        ("nobody saves", "warning", "is lost"),
    ],
)
def test_told(check, kind, severity, says):
    """The finding stands where the model is made, and says what becomes of the ranks' work."""
    (found,), done = check(kind)
    assert (found["rule"], found["severity"], found["ranks"]) == ("ranks-diverge", severity, [0, 1])
    assert "return nn.Sequential" in PROGRAM.read_text().splitlines()[found["line"] - 1]
    assert says in found["why"]
    assert done.rc == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", SILENT)
def test_silent(check, kind):
    """Whatever joins them, and wherever each rank's model is wanted for itself: no word."""
    told, done = check(kind)
    assert told == []
    assert done.rc == 0, done.err
