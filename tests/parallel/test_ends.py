"""A process of several ranks ends only after gloo's threads have let go of what they have sent."""

from __future__ import annotations

import json
import threading
from collections import deque

import pytest
import torch

from loopwright.parallel import world

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import loopwright as lw
torch.set_num_threads(1)
x = torch.randn(256, 8)
data = TensorDataset(x, (x[:, 0] > 0).long())
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
for step in run.loop(DataLoader(data, batch_size=32, shuffle=True), epochs=3):
    inputs, labels = step.batch
    step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
    step.update()
"""


@pytest.fixture
def latest(monkeypatch):
    """Collectives that this test says were the latest."""
    monkeypatch.setattr(world, "_LATEST", deque(maxlen=8))
    return world._LATEST


def test_it_waits_until_all_is_let_go(latest):
    """Somebody else's hold on a tensor, in Python or in C++, is waited for."""
    for _ in range(3):
        world._keep(torch.ones(2), torch.ones(3))
    held = [latest[1][1]]
    graph = [(latest[2][0].requires_grad_() * 2).grad_fn]  # a node keeps its leaf in C++
    waits = threading.Event()

    def let_go():
        waits.wait()
        held.clear()
        graph.clear()

    other = threading.Thread(target=let_go)
    other.start()
    world.settle(0.01)
    assert [len(one) for one in latest] == [2, 2]  # the first one alone is free
    waits.set()
    world.settle(60)
    other.join()
    assert not latest


def test_what_is_large_is_not_kept(latest):
    """A run's last words are small; weights that were sent are not held beyond their use."""
    world._keep(torch.zeros(world.SMALL + 1, dtype=torch.uint8))
    assert not latest


@pytest.mark.long
def test_no_rank_is_aborted_at_its_end(run_program, tmp_path):
    """Twelve times two ranks that end right after their last collective: before, one in five was aborted."""
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    for _ in range(12):
        done = run_program(words, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
        assert done.rc == 0, done.err


HELD = (
    SCRIPT.replace("lw.Run(", 'lw.Run("out", ').partition("for step")[0]
    + """
turns = iter(run.loop(DataLoader(data, batch_size=32, shuffle=True), epochs=3))
for _ in range(3):
    step = next(turns)
    inputs, labels = step.batch
    step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
    step.update()
"""
)


def test_a_loop_that_is_held_until_the_process_ends(ranks, tmp_path):
    """It is ended while the ranks can still speak to each other: its last turn is saved."""
    ranks.run(HELD, 2)
    outcome = json.loads((tmp_path / "out/outcome.json").read_text())
    assert outcome["outcome"]["reason"] == "the loop was left in turn 3"
    assert (tmp_path / "out/checkpoints/loop-0-end").is_dir()
