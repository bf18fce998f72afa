"""What each line did beside gradients and weights, against the same program run statement by statement."""

from __future__ import annotations

import pytest

from explainer import plainly
from explainer.recorded import line, record, step

pytestmark = pytest.mark.long

PROGRAM = """\
import random
import numpy
import torch
from torch import nn
torch.manual_seed(0)
random.seed(0)
numpy.random.seed(0)
inside = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5))
model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), inside, nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
data = torch.randn(64, 6)
for turn in range(4):
    model.train()
    model[1].eval()
    first = random.randrange(32)
    noise = numpy.random.rand(16, 6)
    shift = torch.tensor(noise)
    x = data[first : first + 16] + shift.to(torch.float32)
    same = x.to(torch.float32)
    y = x.sum(1, keepdim=True)
    optimizer.zero_grad()
    hidden = model(x)
    target = hidden.tanh() + hidden
    loss = nn.functional.mse_loss(target, y)
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.param_groups[0]["weight_decay"] = 0.01 * turn
    model.eval()
    drawn = torch.rand(100)
    kept = [drawn[:50], torch.zeros(25), torch.ones(5)]
    del drawn
    total = loss.item()
"""
STEPS = (1, 2, 3)


@pytest.fixture(scope="module")
def both(run_program, tmp_path_factory):
    """The explanation of the program, and what its statements did."""
    folder = tmp_path_factory.mktemp("effects")
    path = folder / "train.py"
    path.write_text(PROGRAM)
    seen = record(run_program, path, folder / "record.json", timed=0, whatifs=False)
    return seen, plainly.run(PROGRAM)


def pairs(both):
    """Each statement of each recorded step: its note, and what it did."""
    seen, turns = both
    for number in STEPS:
        for did in turns[number - 1]:
            yield line(step(seen, number), seen, did.text), did


def test_modes_draws_and_rates(both):
    """Modules that changed their mode, generators that moved on, rates before and after."""
    for note, did in pairs(both):
        effects = note.effects
        assert set(effects.rng) == did.rng, did
        assert (effects.to_train, effects.to_eval) == (did.to_train, did.to_eval), did
        rates = [(f"{one.optimizer} {one.name}", one.before, one.after) for one in effects.rates]
        assert rates == did.rates, did
    turns = both[1]
    assert {one for did in turns[1] for one in did.rng} == {"torch", "python", "numpy"}
    assert (sum(did.to_train for did in turns[1]), sum(did.to_eval for did in turns[1])) == (8, 8)
    assert len([did for did in turns[1] if did.rates]) == 2


def test_nodes(both):
    """How many nodes of the graph a line made."""
    for note, did in pairs(both):
        assert note.effects.nodes == did.nodes, did
    assert [did.nodes for did in both[1][0] if did.nodes][1:] == [2, 1]


def test_moves(both):
    """A change of dtype copies, and one that is none gives the same tensor."""
    seen, _ = both
    for number in STEPS:
        facts = [
            next(event.facts for event in line(step(seen, number), seen, text).events
                 if event.kind == "transfer")
            for text in ("x = data[", "same = ")
        ]  # fmt: skip
        assert [(one["from_dtype"], one["dtype"], one["copied"], one["bytes"]) for one in facts] == [
            ("float64", "float32", True, 16 * 6 * 4), ("float32", "float32", False, 16 * 6 * 4)]  # fmt: skip


def test_memory(both):
    """Bytes that a line made, less those that it freed, are those of the storages that came and went."""
    for note, did in pairs(both):
        effects = note.effects
        assert effects.made_bytes - effects.freed_bytes == did.net, did


def test_the_curve_of_memory(both):
    """After each line it stands where the living storages do; its top is theirs."""
    seen, turns = both
    for number in STEPS:
        one = step(seen, number)
        at = {index: total for index, total, _ in one.memory}
        sum_of = 0
        for did in turns[number - 1]:
            sum_of += did.net
            note = line(one, seen, did.text)
            if one.lines.index(note) in at:
                assert at[one.lines.index(note)] == sum_of, did
            else:
                assert did.net == 0
        highest = max(did.highest for did in turns[number - 1])
        assert max(total for _, total, _ in one.memory) >= highest
        whens = [when for _, _, when in one.memory]
        assert whens == sorted(whens)
