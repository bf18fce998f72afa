"""A run of no substance that fires its moments."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


class FakeRun:
    """What a tracker sees of a run."""

    def __init__(self, folder=None):
        self.folder, self.name = folder, "digits"
        self.settings = {"lr": 0.1, "clip": None}
        self.totals = {}
        self.outcome = SimpleNamespace(kind="running")
        self.active = SimpleNamespace(base=100)
        self.functions = []

    def on(self, moment, function):
        self.functions.append((moment, function))

    def fire(self, moment, turn=0, **values):
        for name, function in self.functions:
            if name == moment:
                function(
                    SimpleNamespace(run=self, turn=turn, values=values, moment=moment, step=None)
                )

    def train(self, first=0, last=2, kind="finished"):
        """Fire what a short run fires."""
        self.fire("loop_begin", turn=first)
        for turn in range(first + 1, last + 1):
            self.fire("log", turn=turn, loss=1.0 / turn, lr={"g": 0.1})
        self.fire("epoch_end", turn=last, train_loss=float("nan"))
        self.totals = {"test_accuracy": 0.9}
        self.outcome.kind, self.active = kind, None
        self.fire("close")


@pytest.fixture
def run(tmp_path):
    """Return a run with a folder, the second loop of which begins after 100 turns."""
    return FakeRun(tmp_path)


@pytest.fixture
def make_run(tmp_path):
    """Return a function that makes another run in the same folder, or in none."""
    return lambda folder=tmp_path: FakeRun(folder)
