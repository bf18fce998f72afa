"""A loop that a library drives is one, whatever files of the library it runs through."""

from __future__ import annotations

import contextlib
import csv
import json

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here
from loopwright.report import explain_html

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
    assert (loop.name, loop.turns, loop.library) == (
        "the library's training loop",
        12,
        csv.__file__,
    )
    assert [one.number for one in seen.steps] == [1, 2, 3]
    cleared = [
        [event.kind for line in one.lines for event in line.events].count("zero_grad")
        for one in seen.steps
    ]
    assert cleared == [2, 1, 1]


AHEAD = """
def batches(loader):
    here = iter(loader)
    last = next(here)
    for batch in here:
        yield last
        last = batch
    yield last
"""
LEARNING = """
def fit(step, optimizer, loader, valid, epochs):
    with torch.no_grad() if early else contextlib.nullcontext():
        for batch in batches(valid):
            evaluate(step, batch)
    for epoch in range(epochs):
        for batch in batches(loader):
            optimizer.zero_grad()
            step(batch).backward()
            optimizer.step()
        with torch.no_grad() if early else contextlib.nullcontext():
            for batch in batches(valid):
                evaluate(step, batch)
def evaluate(step, batch):
    with torch.no_grad() if not early and quiet else contextlib.nullcontext():
        step(batch)
"""


@pytest.mark.parametrize(
    "fetching",
    [
        pytest.param(FETCHING, id="batch by batch"),
        pytest.param(AHEAD, id="looking ahead", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    ("early", "quiet"),
    [(True, True), (False, True), (False, False)],
    ids=["no grad around", "no grad in each", "with gradients"],
)
@pytest.mark.parametrize("same", [False, True], ids=["other data", "the same data"])
def test_training_and_validation(fetching, early, quiet, same):
    """Batches that come through one place are told apart by what is done with them."""
    space = {"torch": torch, "contextlib": contextlib, "early": early, "quiet": quiet}
    exec(compile(fetching, csv.__file__, "exec"), space)
    exec(compile(LEARNING, json.__file__, "exec"), space)
    losses = []

    def program():
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loader = torch.utils.data.DataLoader(torch.rand(12, 2), batch_size=3)
        valid = loader if same else torch.utils.data.DataLoader(torch.rand(4, 2), batch_size=2)

        def step(batch):
            loss = model(batch).square().mean()
            losses.append(loss.item())
            return loss

        space["fit"](step, optimizer, loader, valid, 3)

    seen = recorded_here(program, steps=2, timed=3)
    loops = {one.kind: (number, one) for number, one in enumerate(seen.loops)}
    assert sorted(loops) == ["evaluation", "training"]
    number, training = loops["training"]
    few = 4 if same else 2
    assert (training.name, training.turns) == ("the library's training loop", 12)
    trained = [losses[few + epoch * (4 + few) :][:4] for epoch in range(3)]
    assert seen.losses == {str(number): [one for each in trained for one in each]}
    at, evaluation = loops["evaluation"]
    assert (evaluation.name, evaluation.turns) == ("the library's evaluation loop", 4 * few)
    for loop, kinds in ((number, {"backward", "step"}), (at, set())):
        steps = [one for one in seen.steps if one.loop == loop]
        late = loop == number and same and not early  # it is known to train once it has
        expected = [2, 3] if late else [1, 2]
        assert [one.number for one in steps][:2] == expected
        for one in steps:
            did = {event.kind for line in one.lines for event in line.events}
            assert did & {"backward", "step"} == kinds
            assert "forward" in did


def test_why_there_are_no_what_ifs(seen):
    """Its statements are the library's; the line of the program that calls it is named."""
    second = seen.steps[1]
    assert second.whatifs == []
    text = seen.files[0].text.splitlines()
    number = 1 + text.index("    fit(step, optimizer, loader)")
    assert second.not_replayed.startswith(f"line {number} runs the loop inside a library")


WITHOUT = """
def fit(step, optimizer, batches, valid, epochs):
    for epoch in range(epochs):
        for batch in batches:
            step(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        evaluate(step, valid)
"""
EVALUATING = """
def evaluate(step, valid):
    with torch.no_grad():
        for batch in valid:
            step(batch)
"""


def test_batches_of_its_own():
    """A library that fetches no batch from a DataLoader for training, and does so for validation."""
    space = {"torch": torch}
    exec(compile(WITHOUT, json.__file__, "exec"), space)
    exec(compile(EVALUATING, csv.__file__, "exec"), space)
    losses = []

    def program():
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        valid = torch.utils.data.DataLoader(torch.rand(4, 2), batch_size=2)

        def step(batch):
            loss = model(batch).square().mean()
            losses.append(loss.item())
            return loss

        space["fit"](step, optimizer, torch.rand(4, 3, 2), valid, 3)

    seen = recorded_here(program, steps=2, timed=3)
    assert {one.kind: one.turns for one in seen.loops} == {"training": 12, "evaluation": 6}
    trained = [loss for epoch in range(3) for loss in losses[6 * epoch :][:4]]
    assert list(seen.losses.values()) == [trained]
    assert explain_html.losses(seen, 0) is not None  # no pass over data is known
