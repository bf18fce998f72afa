"""Denormal numbers as zero: in which threads, what it leaves as it is, and that a run notes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopwright as lw
from loopwright.errors import LoopwrightWarning
from loopwright.train.process import denormals

TINY = torch.finfo(torch.float32).tiny
THREADS = """
import torch
from loopwright.train.process import denormals

torch.set_num_threads(2)
assert denormals.flush()
half = torch.full((1 << 20,), 1.2e-38).mul_(0.5)
print(int((half != 0).sum()))
"""
TOO_LATE = """
import torch
from loopwright.train.process import denormals

torch.set_num_threads(2)
torch.full((1 << 20,), 1.0).mul_(0.5)
print(denormals.flush(), denormals.are_flushed())
"""


@pytest.fixture(autouse=True)
def _as_before():
    yield
    torch.set_flush_denormal(False)


def test_flush():
    """Half of the smallest normal number is zero then, and the smallest one itself is not."""
    assert not denormals.are_flushed()
    assert denormals.flush()
    assert denormals.are_flushed()
    assert torch.tensor(TINY).mul(0.5) == 0
    assert torch.tensor(2 * TINY).mul(0.5) == TINY


@pytest.mark.parametrize(
    ("program", "said"),
    [pytest.param(THREADS, "0", id="begun after it"),
     pytest.param(TOO_LATE, "False True", id="begun before it")],
)  # fmt: skip
def test_threads(run_program, program, said):
    """Threads that torch begins after it take it over; those that it had begun do not, and that is told."""
    done = run_program(["-c", program], env={"OMP_NUM_THREADS": "2"})
    assert done.rc == 0, done.err
    assert done.out.strip() == said


def test_rare_gradients():
    """Adam's moments of a gradient that comes once become denormal, or zero: the weights are the same."""

    def trained():
        torch.manual_seed(0)
        model = nn.Linear(8, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        inputs = torch.randn(1200, 4, 8)
        inputs[1:, :, :4] = 0
        for batch in inputs:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
        return model.weight.detach().clone(), optimizer.state[model.weight]["exp_avg"]

    plain, moments = trained()
    assert ((moments != 0) & (moments.abs() < TINY)).sum() == 4
    assert denormals.flush()
    flushed, moments = trained()
    assert (moments[0, :4] == 0).all()
    assert torch.equal(plain, flushed)


def test_a_run_notes_it(tmp_path):
    """A run that goes on with denormal numbers where it was begun without them says so."""

    def train(steps):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        run = lw.Run(tmp_path / "run", model=model,
                     optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)  # fmt: skip
        for step in run.loop([torch.ones(2, 3)] * 4, steps=steps):
            step.backward(model(step.batch).mean())
            step.update()
        return run

    denormals.flush()
    assert train(2).environment["denormals"] == "zero"
    torch.set_flush_denormal(False)
    with pytest.warns(LoopwrightWarning, match=r"denormals zero → —.*\[resumed-elsewhere\]"):
        assert "denormals" not in train(4).environment


def _left(share, size=20_000, dtype=torch.float32):
    """Return an optimizer that has trained, with so much of its momentum denormal."""
    weight = nn.Parameter(torch.ones(size, dtype=dtype))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    optimizer.state[weight]["momentum_buffer"][: int(share * size)] = torch.finfo(dtype).tiny / 4
    return optimizer


def test_advice(monkeypatch):
    """What the run's notes say, and when they say nothing."""
    monkeypatch.setattr(denormals, "slowdown", lambda: 21.6)
    assert denormals.advice([_left(0.25)], 1000) == (
        "25 % of the optimizer's numbers are denormal (under 1e-38), and this processor is 22 times "
        "slower with those: --flush-denormal, or torch.set_flush_denormal(True) at the program's "
        "beginning, takes them as zero"
    )
    assert denormals.advice([_left(0.5, dtype=torch.float64), _left(0.5)], 1000).startswith("50 %")
    assert denormals.advice([_left(0.001)], 1000) is None
    assert denormals.advice([_left(1, size=5_000)], 1000) is None
    assert denormals.advice([_left(1)], 20) is None
    monkeypatch.setattr(denormals, "slowdown", lambda: 1.1)
    assert denormals.advice([_left(1)], 1000) is None


def test_of_many_numbers_some_are_looked_at(monkeypatch):
    """The share is that of an even sample."""
    monkeypatch.setattr(denormals, "MOST", 1000)
    monkeypatch.setattr(denormals, "slowdown", lambda: 21.6)
    assert denormals.advice([_left(0.25)], 1000).startswith("25 %")


def test_slowdown():
    """The processor's time; with denormal numbers as zero there is no other."""
    assert denormals.slowdown() > 0.8
    denormals.flush()
    assert 0.5 < denormals.slowdown() < 2


def test_flushed_is_not_told(monkeypatch):
    """Numbers that are zero to the processor already are not counted."""
    monkeypatch.setattr(denormals, "slowdown", lambda: 21.6)
    optimizer = _left(0.5)
    denormals.flush()
    assert denormals.advice([optimizer], 1000) is None


def test_a_run_tells_of_them(monkeypatch, tmp_path):
    """In its notes, where its optimizer has come to keep many."""
    monkeypatch.setattr(denormals, "slowdown", lambda: 21.6)
    torch.manual_seed(0)
    model = nn.Linear(20_000, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.6)
    run = lw.Run(tmp_path / "run", model=model, optimizer=optimizer, progress=False)
    for step in run.loop([torch.zeros(1, 20_000)], steps=220):
        inputs = step.batch.clone()
        inputs[:, : 20_000 if step.index == 0 else 10_000] = 1
        step.backward(model(inputs).mean())
        step.update()
    (note,) = [note for note in run.notes if "denormal" in note]
    assert note.startswith("50 % of the optimizer's numbers are denormal")
