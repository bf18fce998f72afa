"""The learning rate of every update is the plain loop's and the closed form's."""

from __future__ import annotations

import math

import plain
import pytest
import torch
from material import prepared, quiet_run, train_loader
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau

import loopwright as lw

CRITERION = nn.CrossEntropyLoss()
LR = 0.1
BATCHES = 5  # of the material's loader


def sgd(parameters):
    """Return SGD at the base learning rate."""
    return torch.optim.SGD(parameters, lr=LR)


def rates(accumulate, scheduler, *, valid=None, **limits):
    """Train and return the learning rate that each update was made with, and the run."""
    model, optimizer, loader = prepared(sgd)
    seen = []
    run = quiet_run(
        model=model, optimizer=optimizer, accumulate=accumulate, scheduler=scheduler(optimizer)
    )
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    for step in run.loop(loader, **limits):
        inputs, labels = step.batch
        step.backward(CRITERION(run.model(inputs), labels))
        step.update()
        if step.ends_epoch and valid is not None:
            step.log(valid_loss=valid[step.epoch])
    return seen, run


@pytest.mark.parametrize("accumulate", [1, 4])
def test_row_05_scheduler_per_micro_batch(accumulate):
    """A schedule per update follows its closed form in updates, for windows of 1 and of 4."""
    updates = 3 * math.ceil(BATCHES / accumulate)
    seen, run = rates(accumulate, lambda o: lw.per_update(CosineAnnealingLR(o, updates)), epochs=3)
    expected = [LR * (1 + math.cos(math.pi * t / updates)) / 2 for t in range(updates)]
    assert seen == pytest.approx(expected, abs=1e-12)
    assert run.totals["updates"] == updates
    if accumulate > 1:
        every_batch = [
            LR * (1 + math.cos(math.pi * t * accumulate / updates)) / 2 for t in range(2)
        ]
        assert seen[:2] != pytest.approx(every_batch, abs=1e-3), "a step per batch would be seen"


def test_row_05_per_update_as_by_hand():
    """The sequence is the very one of a hand-written loop that steps after each update."""
    model, optimizer, loader = prepared(sgd)
    _, expected = plain.train(
        model, optimizer, loader, 3, CRITERION, per_update=ExponentialLR(optimizer, 0.9)
    )
    seen, _ = rates(1, lambda o: lw.per_update(ExponentialLR(o, 0.9)), epochs=3)
    assert seen == expected


@pytest.mark.parametrize("accumulate", [1, 4])
def test_per_epoch(accumulate):
    """A schedule per epoch changes the rate between epochs alone, as by hand."""
    model, optimizer, loader = prepared(sgd)
    _, by_hand = plain.train(
        model, optimizer, loader, 3, CRITERION, per_epoch=ExponentialLR(optimizer, 0.5)
    )
    seen, _ = rates(accumulate, lambda o: lw.per_epoch(ExponentialLR(o, 0.5)), epochs=3)
    updates = math.ceil(BATCHES / accumulate)
    assert seen == [LR * 0.5**e for e in range(3) for _ in range(updates)]
    if accumulate == 1:
        assert seen == by_hand


def test_on_metric():
    """A plateau schedule sees each epoch's logged value once, as by hand."""
    values = [1.0, 0.5, 0.6, 0.7, 0.4, 0.45]
    optimizer = sgd([nn.Parameter(torch.zeros(1))])
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        plateau.step(value)
    seen, run = rates(
        1,
        lambda o: lw.on_metric(ReduceLROnPlateau(o, factor=0.1, patience=0), "valid_loss"),
        valid=values,
        epochs=len(values),
    )
    assert seen[::BATCHES] == expected
    assert run.lr() == optimizer.param_groups[0]["lr"]
    assert len(set(expected)) > 1


LENGTHS = {
    "epochs": ({"epochs": 4}, 1, 4 * BATCHES),
    "epochs, windows": ({"epochs": 4}, 4, 4 * 2),
    "steps": ({"steps": 12}, 1, 12),
    "steps inside an epoch, windows": ({"steps": 12}, 4, 2 + 2 + 1),
    "the nearer of both": ({"steps": 7, "epochs": 4}, 1, 7),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_warmup_cosine_knows_the_loops_length(name):
    """Warm-up and cosine end with the loop: each update's rate is the closed form's."""
    limits, accumulate, updates = LENGTHS[name]
    seen, run = rates(accumulate, lambda o: lw.warmup_cosine(warmup=2, final=0.1), **limits)
    expected = [
        LR * ((t + 1) / 3 if t < 2 else 0.1 + 0.9 * (1 + math.cos(math.pi * (t - 2) / (updates - 2))) / 2)
        for t in range(updates)
    ]  # fmt: skip
    assert len(seen) == run.totals["updates"] == updates
    assert seen == pytest.approx(expected, abs=1e-12)
    assert run.lr() == pytest.approx(0.1 * LR, abs=1e-12)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_recorded_rate_is_the_one_that_was_used(accumulate):
    """The curve has one point a turn: the rate of that turn's update, not the one after it."""
    seen, run = rates(accumulate, lambda o: lw.per_update(ExponentialLR(o, 0.9)), epochs=1)
    curve = run.history.series["lr"]
    updates = range(1, BATCHES + 1) if accumulate == 1 else [4, BATCHES]
    assert curve.x == list(range(1, len(train_loader()) + 1))
    assert [curve.y[turn - 1] for turn in updates] == seen
    assert seen[0] == curve.y[0] == LR
