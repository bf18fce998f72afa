"""What a run says of denormal numbers that its optimizer has come to keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopwright as lw
from loopwright.denormals import Slow
from loopwright.train.display.denormals import advice

SECONDS = {"forward": 10.0, "step": 10.0}


@pytest.fixture
def found(monkeypatch):
    """``found(seconds, ...)``: what an optimizer has costs so many seconds a step."""

    def set_to(*seconds):
        slow = [
            Slow(f"part {i}", 40_000, 1.2e-38, 0.25, 21.6, one) for i, one in enumerate(seconds)
        ]
        monkeypatch.setattr("loopwright.denormals.slow", lambda optimizer: slow)

    return set_to


def test_advice(found):
    """The kind of state that costs most is named, with what all of it costs."""
    found(1e-4, 3e-4)
    assert advice([None], SECONDS, 10_000) == (
        "25 % of the numbers in the optimizer's part 1 are denormal (below 1.2e-38), and this processor "
        "multiplies them 21.6 times slower: at least 20 % of a step; --flush-denormal, or "
        "torch.set_flush_denormal(True) at the program's beginning, takes them as zero"
    )


def test_no_word(found):
    """Nothing is slow; few turns, a second of all, a small part of a step, or a few microseconds of it."""
    found()
    assert advice([None], SECONDS, 10_000) is None
    found(1e-2)
    assert advice([None], SECONDS, 101).startswith("25 %")
    assert advice([None], SECONDS, 99) is None
    found(1e-3)
    assert advice([None], {"step": 1.0}, 990) is None
    found(5.9e-5)
    assert advice([None], {"step": 40.0}, 20_000) is None
    found(4.9e-5)
    assert advice([None], SECONDS, 30_000) is None


def test_a_run_tells_of_them(found, tmp_path):
    """In its notes, at a loop's end."""
    found(10.0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lw.Run(tmp_path / "run", model=model, optimizer=optimizer, progress=False) as run:
        for step in run.loop([torch.ones(2, 3)] * 10, steps=120):
            step.backward(model(step.batch).mean())
            step.update()
        (note,) = [note for note in run.notes if "denormal" in note]
    assert note.startswith("25 % of the numbers in the optimizer's part 0")
