"""A loop that a library drives is one, whatever files of the library it runs through."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here

FETCHING = """
def batches(loader):
    for batch in loader:
        yield batch
"""
FITTING = """
def fit(step, optimizer, loader):
    optimizer.zero_grad()
    for batch in batches(loader):
        optimizer.zero_grad()
        step(batch).backward()
        optimizer.step()
"""


@pytest.fixture
def fit():
    """A library of two files, neither of which is followed."""
    space = {}
    exec(compile(FETCHING, csv.__file__, "exec"), space)
    exec(compile(FITTING, json.__file__, "exec"), space)
    return space["fit"]


def train(fit):
    """Twice six batches, and the program's own code for one of them."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.ones(12, 2), batch_size=2)

    def step(batch):
        return model(batch).sum()

    fit(step, optimizer, loader)
    fit(step, optimizer, loader)


@pytest.fixture
def seen(fit):
    """The narrated record."""
    return recorded_here(lambda: train(fit), steps=3, timed=2, whatifs=True)


def test_it_is_one_loop(seen):
    """Gradients that are cleared before the first batch belong to its turn, and make no loop of their own."""
    (loop,) = seen.loops
    assert (loop.name, loop.turns, loop.library) == ("the library's loop", 12, csv.__file__)
    assert [one.number for one in seen.steps] == [1, 2, 3]
    cleared = [
        [event.kind for line in one.lines for event in line.events].count("zero_grad")
        for one in seen.steps
    ]
    assert cleared == [2, 1, 1]


def test_why_there_are_no_what_ifs(seen):
    """Its statements are the library's; the line of the program that calls it is named."""
    second = seen.steps[1]
    assert second.whatifs == []
    text = seen.files[0].text.splitlines()
    number = 1 + text.index("    fit(step, optimizer, loader)")
    assert second.not_replayed.startswith(f"line {number} runs the loop inside a library")
