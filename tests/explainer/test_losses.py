"""The losses of a loop, and the mean of each pass over the data beside them."""

from __future__ import annotations

import re
from statistics import mean

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here
from loopwright.report import explain_html

LENGTHS = [4, 2, 3]


def train(losses):
    """Three epochs of other lengths."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batches in LENGTHS:
        for _ in range(batches):
            optimizer.zero_grad()
            loss = model(torch.randn(4, 2)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())


def shown(record, number):
    """Values in the key of the drawing, and how many points the second line has."""
    drawn = str(explain_html.losses(record, number))
    points = [
        len(re.findall(r"[\d.]+[ ,][\d.]+", path)) for path in re.findall(r' d="([^"]+)"', drawn)
    ]
    return re.findall(r">epoch mean ([\d.]+)</span>", drawn), points


@pytest.mark.parametrize("stopped", [False, True])
def test_means_of_passes(stopped):
    """Each pass has the mean of its own batches; one in which the program was ended has none."""
    losses = []
    record = recorded_here(lambda: train(losses), steps=1, timed=2)
    record.stopped = stopped
    (number,) = [at for at, one in enumerate(record.loops) if one.kind == "training"]
    assert record.losses[str(number)] == losses
    assert record.loops[number].passes == [0, 4, 6]
    last = losses[4:6] if stopped else losses[6:]
    key, points = shown(record, number)
    assert key == [f"{mean(last):.4g}"]
    assert points[-2:] == [len(losses), 2 * (2 if stopped else 3)]
