"""Denormal numbers: what of an optimizer is looked at, and taking them as zero, in which threads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import loopwright as lw
from loopwright import denormals
from loopwright.denormals import BLOCK, BLOCKS, blocks, kinds
from loopwright.errors import LoopwrightWarning

TINY = torch.finfo(torch.float32).tiny
THREADS = """
import torch
from loopwright import denormals

torch.set_num_threads(2)
assert denormals.flush()
half = torch.full((1 << 20,), 1.2e-38).mul_(0.5)
print(int((half != 0).sum()))
"""
TOO_LATE = """
import torch
from loopwright import denormals

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


def test_a_look_spreads_over_all():
    """Few numbers are taken as a whole; of many, runs as they lie in memory, of each tensor its part."""
    small = [torch.arange(700.0), torch.arange(3.0), torch.arange(12.0).view(3, 4).t()]
    assert blocks(small).tolist() == [*range(700), *range(3), *range(12)]
    large = [torch.zeros(300_000), torch.ones(4), torch.ones(100, 1000)]
    taken = blocks(large)
    assert BLOCK * (BLOCKS - 1) < len(taken) <= BLOCK * (BLOCKS + 1)
    assert float(taken.mean()) == pytest.approx(0.25, abs=0.02)


def test_what_is_looked_at():
    """Tensors of numbers on the CPU; step counts, other devices, other types and lists of tensors are not."""
    kept = {
        "exp_avg": torch.ones(3),
        "step": torch.ones(()),
        "there": torch.ones(3, device="meta"),
        "codes": torch.ones(3, dtype=torch.uint8),
        "factors": [torch.ones(3)],
        "apart": torch.ones(3).expand(2, 3),
    }
    found = kinds(SimpleNamespace(state={0: kept, 1: None}))
    assert {name: len(tensors) for name, tensors in found.items() if tensors} == {
        "exp_avg": 1,
        "apart": 1,
    }
    assert blocks(found["apart"]) is None
    assert kinds(None) == {}
