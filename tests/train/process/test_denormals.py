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
