"""A profiler window."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from loopwright.errors import UsageError
from loopwright.train.measure.profiling import profile


class FakeRun:
    """Fires the moments of a short loop around a matrix product."""

    def __init__(self, folder):
        self.folder, self.functions = folder, []

    def on(self, moment, function):
        self.functions.append((moment, function))

    def fire(self, moment, turn=0):
        for name, function in self.functions:
            if name == moment:
                function(SimpleNamespace(run=self, turn=turn))

    def train(self, turns, first=0, every=1):
        self.fire("loop_begin", first)
        for turn in range(first, turns):
            torch.ones(4, 4) @ torch.ones(4, 4)
            if (turn + 1) % every == 0:
                self.fire("update", turn)
                self.fire("update", turn)  # a second optimizer
        self.fire("loop_end", turns)
        self.fire("close")


def spans(file):
    """Return the names of the turns in a trace, and how many products it saw."""
    events = json.loads(file.read_text())["traceEvents"]
    names = [e["name"] for e in events if e.get("cat") == "user_annotation"]
    return [n for n in names if n.startswith("turn")], sum(e["name"] == "aten::mm" for e in events)


@pytest.mark.parametrize(
    ("window", "turns", "expected"),
    [
        ("2:4", 8, ["turn 2", "turn 3"]),
        (range(2), 8, ["turn 0", "turn 1"]),
        ("3:9", 5, ["turn 3", "turn 4"]),
    ],
)
def test_chosen_turns_are_in_the_trace(tmp_path, window, turns, expected):
    """The trace holds one span for each turn of the window, also when the run ends within it."""
    run = FakeRun(tmp_path / "run")
    profile(window, tmp_path / "new" / "trace.json")(run)
    run.train(turns)
    found, products = spans(tmp_path / "new" / "trace.json")
    assert [name for name in found if name in expected] == expected
    assert products == len(expected)


def test_the_file_goes_into_the_runs_folder(tmp_path):
    """By default the trace is in the run's folder, named by its window; accumulation rounds it."""
    run = FakeRun(tmp_path)
    profile("2:6")(run)
    run.train(8, every=4)
    assert spans(tmp_path / "trace-2-6.json") == (["turn 4"], 4)


def test_a_resumed_run_beyond_the_window_writes_nothing(tmp_path):
    """Turns are the loop's own: a run that resumes after the window has no trace."""
    run = FakeRun(tmp_path)
    profile("2:4", tmp_path / "trace.json")(run)
    run.train(8, first=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("turns", ["10", "5:5", "a:b", 10, range(0, 10, 2), "9:3"])
def test_what_is_no_window(turns):
    """A window that is none is an error where it is written."""
    with pytest.raises(UsageError, match="no window"):
        profile(turns)
