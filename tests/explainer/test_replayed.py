"""Steps of other shapes than the tutorial's are run again too; what keeps one from it is named."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here, step

MICRO = """\
import torch
from torch import nn
torch.manual_seed(0)
def get_batch():
    x = torch.randn(8, 4)
    return x, x.sum(1, keepdim=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
number = 0
x, y = get_batch()
while True:
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (1 + number)
    for micro_step in range(3):
        loss = nn.functional.mse_loss(model(x), y) / 3
        x, y = get_batch()
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    number += 1
    if number == 4:
        break
"""


def by_hand(change="", turns=2):
    """Norms of the last gradients and of the last step, and the first batch's loss after it."""
    space = {}
    exec(MICRO.partition("while True")[0], space)
    model, optimizer, get_batch = space["model"], space["optimizer"], space["get_batch"]
    x, y = space["x"], space["y"]
    for number in range(turns):
        first = x, y
        rate = 0.1 / (1 + number)
        optimizer.param_groups[0]["lr"] = rate * (0.5 if change == "half" and number == 1 else 1)
        state = torch.get_rng_state()
        for again in range(2 if number == 1 and change in ("kept", "cleared") else 1):
            before = [p.detach().clone() for p in model.parameters()]
            if again:
                torch.set_rng_state(state)
                x, y = first
                if change == "cleared":
                    optimizer.zero_grad()
            for _ in range(3):
                loss = nn.functional.mse_loss(model(x), y) / 3
                x, y = get_batch()
                loss.backward()
            grad = together(p.grad for p in model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if number < turns - 1:
            optimizer.zero_grad()
    moved = together(p.detach() - b for p, b in zip(model.parameters(), before, strict=True))
    return grad, moved, (nn.functional.mse_loss(model(first[0]), first[1]) / 3).item()


def together(tensors):
    """The norm of all of them."""
    return math.sqrt(sum(one.double().square().sum().item() for one in tensors))


def test_micro_batches_in_a_loop_of_their_own(explained):
    """All backward passes of the step are run again, with the rate that the step sets itself."""
    second = step(explained(MICRO, timed=0), 2)
    assert second.not_replayed == ""
    found = {one.name: one.values for one in second.whatifs}
    half = found["half the learning rate"]
    _, delta, after = by_hand("half")
    assert half["lr"] == 0.025
    assert half["delta"] == pytest.approx(delta, rel=1e-6)
    assert half["loss_after"] == pytest.approx(after, rel=1e-6)
    _, delta, after = by_hand()
    assert half["delta_unchanged"] == pytest.approx(delta, rel=1e-6)
    assert half["loss_after_unchanged"] == pytest.approx(after, rel=1e-6)


def test_clearing_at_the_end_of_a_step(explained):
    """What the same batches would add to is told, since the step itself begins with no gradient."""
    second = step(explained(MICRO, timed=0), 2)
    (found,) = [one for one in second.whatifs if one.name.startswith("without zero_grad")]
    assert found.name == "without zero_grad (line 20)"
    assert found.title.startswith("With the same batch once more, backward adds to the old")
    grad, delta, _ = by_hand("kept")
    assert found.values["grad"] == pytest.approx(grad, rel=1e-6)
    assert found.values["delta"] == pytest.approx(delta, rel=1e-6)
    grad, delta, _ = by_hand("cleared")
    assert found.values["grad_unchanged"] == pytest.approx(grad, rel=1e-6)
    assert found.values["delta_unchanged"] == pytest.approx(delta, rel=1e-6)


BODY = """\
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
out = open("log.txt", "w")
for turn in range(3):
    x = torch.randn(8, 4)
    label = torch.ones(8, 1)
    optimizer.zero_grad()
    STATEMENT
    nn.functional.mse_loss(model(x), label).backward()
    optimizer.step()
"""
UNNAMED = {
    "a label written in place": "label.fill_(0)",
    "through data": "label.data.zero_()",
    "some of its elements": "x[:, 0] = 0",
    "by a function": "nn.init.zeros_(label)",
    "a draw that is only printed": "print(torch.rand(1)); x += 0 * torch.rand(8, 1)",
    "a rate set by hand": "optimizer.param_groups[0]['lr'] = 0.1 / (turn + 1)",
}


QUICK = ("a label written in place", "a rate set by hand")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in UNNAMED]
)
def test_statements_that_assign_no_name(name, explained):
    """What they write into is needed all the same."""
    second = step(explained(BODY.replace("STATEMENT", UNNAMED[name]), timed=0), 2)
    assert second.not_replayed == ""
    assert {"half the learning rate", "twice the learning rate"} <= {
        one.name for one in second.whatifs
    }


def test_the_line_that_prevents_it_is_named(explained):
    """A statement that writes and that the step needs is not run again, and the reason says so."""
    text = BODY.replace("STATEMENT", "out.write(str(label.mul_(torch.rand(8, 1)).sum()))")
    second = step(explained(text, timed=0), 2)
    assert second.whatifs == []
    assert "run again unchanged, line 12 gives the loss" in second.not_replayed
    assert second.not_replayed.endswith("; line 11 would write once more (`.write`)")


class Wrapping(torch.optim.Optimizer):
    """An optimizer around another one, with the same groups; what Accelerate's prepare returns is one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        """Those of the inner one."""
        return self.optimizer.param_groups

    @property
    def state(self):
        """That of the inner one."""
        return self.optimizer.state

    @state.setter
    def state(self, state):
        self.optimizer.state = state

    def step(self, closure=None):
        """The inner one's."""
        return self.optimizer.step(closure)

    def zero_grad(self, set_to_none=True):
        """The inner one's."""
        self.optimizer.zero_grad(set_to_none)


def train_wrapped():
    """Three steps."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    inner = torch.optim.SGD(model.parameters(), lr=0.125)
    outer = Wrapping(inner)
    for _ in range(3):
        outer.zero_grad()
        nn.functional.mse_loss(model(torch.randn(8, 4)), torch.ones(8, 1)).backward()
        outer.step()


def test_a_rate_that_two_optimizers_share_is_changed_once():
    """Half the rate moves half as far, also where one optimizer calls another one's step."""
    seen = recorded_here(train_wrapped, timed=0, whatifs=True)
    found = {one.name: one.values for one in step(seen, 2).whatifs}
    for name, factor in (("half the learning rate", 0.5), ("twice the learning rate", 2)):
        assert found[name]["lr"] == 0.125 * factor
        assert found[name]["delta"] == pytest.approx(found[name]["delta_unchanged"] * factor)


def train_scaled():
    """Three steps with a scaled loss."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(torch.randn(8, 4)), torch.ones(8, 1))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def train_with_flags():
    """Three steps of an outer loop that switches gradients off for what it has trained, and on again."""
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4), nn.Linear(4, 1)
    one, other = (torch.optim.SGD(net.parameters(), lr=0.125) for net in (first, second))
    for _ in range(3):
        for p in second.parameters():
            p.requires_grad_(True)
        for _ in range(2):
            other.zero_grad()
            second(first(torch.ones(8, 4)).detach()).square().mean().backward()
            other.step()
        for p in second.parameters():
            p.requires_grad_(False)
        one.zero_grad()
        second(first(torch.randn(8, 4))).square().mean().backward()
        one.step()


@pytest.mark.parametrize("train", [train_scaled, train_with_flags])
def test_a_scaled_loss_and_gradients_switched_off(train):
    """Such steps are run again too; the loss is the unscaled one, and half the rate moves half as far."""
    seen = recorded_here(train, timed=0, whatifs=True)
    (number, *_) = [at for at, one in enumerate(seen.loops) if one.kind == "training"]
    second = next(one for one in seen.steps if (one.loop, one.number) == (number, 2))
    assert second.not_replayed == ""
    half = {one.name: one.values for one in second.whatifs}["half the learning rate"]
    assert half["lr"] == 0.0625
    if train is train_scaled:
        assert half["loss_before"] == second.losses[0]
        assert half["delta"] == pytest.approx(half["delta_unchanged"] / 2)


ADDED = """\
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 1)
extra = nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
x, y = torch.randn(8, 4), torch.randn(8, 1)
for turn in range(3):
    if turn == 1:
        optimizer.add_param_group({"params": [extra], "lr": 0.5})
    loss = nn.functional.mse_loss(model(x) + extra, y)
    loss.backward()
    optimizer.step()
    for p in [*model.parameters(), extra]: p.grad = None
"""


def with_a_group(factor):
    """The loss of the batch after the second step, whose rates are changed by a factor."""
    space = {}
    exec(ADDED.partition("for turn")[0], space)
    model, extra, optimizer = space["model"], space["extra"], space["optimizer"]
    for turn in range(2):
        if turn:
            optimizer.add_param_group({"params": [extra], "lr": 0.5 * factor})
            optimizer.param_groups[0]["lr"] *= factor
        loss = nn.functional.mse_loss(model(space["x"]) + extra, space["y"])
        loss.backward()
        optimizer.step()
        for p in [*model.parameters(), extra]:
            p.grad = None
    return nn.functional.mse_loss(model(space["x"]) + extra, space["y"]).item()


def test_a_group_that_the_step_adds(explained):
    """It is added once in each run of the step; a loop in one line that clears gradients is seen to."""
    second = step(explained(ADDED, timed=0), 2)
    assert second.not_replayed == ""
    found = {one.name: one.values for one in second.whatifs}
    assert found["half the learning rate"]["loss_after"] == with_a_group(0.5)
    assert found["half the learning rate"]["loss_after_unchanged"] == with_a_group(1)
    kept = found["without clearing .grad (line 14)"]
    assert kept["grad"] > kept["grad_unchanged"] > 0
