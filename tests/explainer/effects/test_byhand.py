"""A loss, clearing and an update that are written by hand have their phases and right numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from explainer.recorded import line, recorded_here, said, step

CLEARINGS = {
    "p.grad = None": "is `None` again",
    "p.grad.zero_()": "is 0 again",
    "p.grad.data.fill_(0)": "is 0 again",
    "p.grad = torch.zeros_like(p)": "is 0 again",
}


def layers():
    """A model of four parameters, and its data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.randn(64, 4), torch.randn(64, 1)


def descent(model, x, y):
    """Everything by hand; what is cleared is cleared at the end."""
    for _ in range(3):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
        for p in model.parameters():
            p.grad = None


def test_the_statement_that_makes_the_root_computes_the_loss():
    """It has the phase, its value is the loss, and its sentence says that backward begins there."""
    model, x, y = layers()
    plain = copy.deepcopy(model)
    seen = recorded_here(lambda: descent(model, x, y), steps=2, timed=1)
    one = step(seen, 1)
    told = line(one, seen, "loss = ((model(x)")
    assert told.phases == ["forward", "loss"]
    assert told.sentences[-1].endswith("backward begins there.")
    wanted = ((plain(x) - y) ** 2).mean().item()
    assert one.losses == [wanted]
    (facts,) = [event.facts for event in told.events if event.kind == "loss"]
    assert (facts["value"], facts["node"]) == (wanted, "MeanBackward0")
    rows = {row[0]: row for row in one.brief}
    assert rows["loss"][2] == f"loss {wanted:.4g}"
    assert {"forward", "loss", "backward", "step", "zero_grad"} == set(rows)
    (timing,) = seen.timings
    assert timing.phases["loss"] > 0 < timing.phases["step"]


def test_a_loss_that_is_divided_where_backward_is_called():
    """The statement before it computes the loss; a loss function's own line stays the only one."""

    def train():
        model, x, y = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = (model(x) - y).abs().mean()
            (loss / 4).backward()
            known = nn.functional.l1_loss(model(x), y)
            (known / 4).backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    one = step(seen, 2)
    assert "loss" in line(one, seen, "loss = (model").phases
    assert "loss" not in line(one, seen, "(loss / 4)").phases
    assert [event.kind for event in line(one, seen, "known = nn").events].count("loss") == 1
    assert not any(
        "backward begins there" in told for told in line(one, seen, "loss = (").sentences
    )


def test_a_loss_in_one_statement_with_its_backward():
    """And one that a function returns: both are said with their value."""

    def error(a, b):
        return (a - b).square().mean()

    def train():
        model, x, y = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (model(x) - y).abs().mean().backward()
            error(model(x), y).backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0)
    one = step(seen, 2)
    assert line(one, seen, "(model(x) - y).abs()").phases == ["forward", "loss", "backward"]
    told = line(one, seen, "return (a - b)")
    assert told.phases == ["loss"]
    (facts,) = [event.facts for event in told.events]
    assert told.sentences[0] == (
        f"The loss is {facts['value']:.4g}, made by `MeanBackward0`: backward begins there."
    )
    assert facts["value"] == one.losses[1]


def test_an_update_by_hand_makes_a_training_loop():
    """Three turns are enough to record it, and it is called a training."""
    model, x, y = layers()
    seen = recorded_here(lambda: descent(model, x, y), steps=1, timed=1)
    assert [loop.kind for loop in seen.loops] == ["training"]
    assert [one.number for one in seen.steps] == [1]
    assert line(seen.steps[0], seen, "p -= 0.1 * p.grad").phases == ["step"]
    assert line(seen.steps[0], seen, "p.grad = None").phases == ["zero_grad"]


@pytest.mark.parametrize("clearing", CLEARINGS)
@pytest.mark.parametrize("place", ["at the end", "before backward"])
def test_what_clearing_by_hand_prevents(clearing, place, explained):
    """The gradient that would have been is that of the plain program without the line."""
    before = f"    for p in params:\n        if p.grad is not None:\n            {clearing}\n"
    text = (
        "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"
        "model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))\n"
        "x, y = torch.randn(64, 4), torch.randn(64, 1)\n"
        "params = list(model.parameters())\n"
        "optimizer = torch.optim.SGD(params, lr=0.1)\n"
        "for step in range(3):\n"
        f"{before if place == 'before backward' else ''}"
        "    loss = ((model(x) - y) ** 2).mean()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        f"{before if place == 'at the end' else ''}"
    )
    seen = explained(text, steps=2, timed=0)
    one = step(seen, 2)
    assert any(CLEARINGS[clearing] in told for told in said(seen)), said(seen)
    assert not one.not_replayed
    (found,) = [asked for asked in one.whatifs if asked.name.startswith("without clearing .grad")]

    space: dict = {}
    exec(text.partition("for step")[0], space)  # the program's own lines
    model, x, y, optimizer = (space[name] for name in ("model", "x", "y", "optimizer"))

    def turn():
        ((model(x) - y) ** 2).mean().backward()
        optimizer.step()

    turn()
    if place == "at the end":  # the second turn begins without gradients, and is asked once more
        model.zero_grad()
        turn()
    before_it = copy.deepcopy([p.detach() for p in model.parameters()])
    turn()
    after = [p.detach() for p in model.parameters()]
    grad = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
    moved = sum(float((a - b).square().sum()) for a, b in zip(after, before_it, strict=True)) ** 0.5
    assert found.values["grad"] == pytest.approx(grad, rel=1e-5)
    assert found.values["delta"] == pytest.approx(moved, rel=1e-5)
    assert found.values["grad"] > found.values["grad_unchanged"]


def test_what_is_not_asked_has_a_reason():
    """No optimizer has a rate to change; no loss function has a reduction."""
    model, x, y = layers()
    seen = recorded_here(lambda: descent(model, x, y), steps=2, timed=0, whatifs=True)
    reasons = " ".join(step(seen, 2).left_out)
    assert "another learning rate, as no optimizer makes the step" in reasons
    assert "no loss function of torch's averages it" in reasons
