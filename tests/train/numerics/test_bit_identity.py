"""With default settings a run's parameters are those of the hand-written loop, to the last bit."""

from __future__ import annotations

import functools
import random

import plain
import pytest
import torch
from material import equal, legacy_numpy, prepared, run_loop, valid_loader
from torch import nn

import loopwright as lw

EPOCHS = 3
CRITERION = nn.CrossEntropyLoss()

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def draws() -> tuple[float, float, float]:
    """Return the next number of each generator: they too must stand where the plain loop's stand."""
    return torch.rand(()).item(), legacy_numpy(), random.random()


@functools.cache
def plain_model(name, **kinds):
    """Train by hand; returns the model and the generators' next numbers."""
    model, optimizer, loader = prepared(OPTIMIZERS[name], **kinds)
    plain.train(model, optimizer, loader, EPOCHS, CRITERION, valid_loader=valid_loader())
    return model, draws()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_run_is_the_plain_loop(name, workers):
    """Dropout, BatchNorm, shuffling, a ragged last batch, 0 and 2 workers: the same bits."""
    expected, after = plain_model(name, workers=workers)
    model, optimizer, loader = prepared(OPTIMIZERS[name], workers=workers)
    run_loop(model, optimizer, loader, EPOCHS, CRITERION)
    assert equal(model, expected)
    assert draws() == after


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_augmentation_from_the_global_generators(name):
    """A data set that draws from torch, numpy and Python beside dropout sees the same numbers."""
    expected, after = plain_model(name, augmented=True)
    model, optimizer, loader = prepared(OPTIMIZERS[name], augmented=True)
    run_loop(model, optimizer, loader, EPOCHS, CRITERION)
    assert equal(model, expected)
    assert draws() == after


@pytest.mark.parametrize("mid", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
def test_row_21_evaluation_consumes_the_training_generators(augmented, mid):
    """With ``run.evaluate`` at each epoch's end, or also inside it, the bits stay the plain loop's."""
    expected, after = plain_model("adamw", augmented=augmented)
    model, optimizer, loader = prepared(OPTIMIZERS["adamw"], augmented=augmented)
    run_loop(model, optimizer, loader, EPOCHS, CRITERION, evaluate=valid_loader(), mid=mid)
    assert equal(model, expected)
    assert draws() == after


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit_is_the_plain_loop(name):
    """``lw.fit`` with validation and a metric gives the plain loop's bits."""
    expected, after = plain_model(name)
    model, optimizer, loader = prepared(OPTIMIZERS[name])
    lw.fit(
        model, optimizer, CRITERION, loader, valid_loader(),
        epochs=EPOCHS, metrics=["accuracy"], progress=False,
    )  # fmt: skip
    assert equal(model, expected)
    assert draws() == after


def test_batches_from_a_list_and_a_generator():
    """A list and a generator of batches train to the same bits as the loader they came from."""
    batches = list(prepared(OPTIMIZERS["sgd"])[2])
    for source in (batches, lambda: iter(batches)):
        expected, by_hand, _ = prepared(OPTIMIZERS["sgd"])
        lw.seed(1)
        plain.train(expected, by_hand, batches, EPOCHS, CRITERION)
        model, optimizer, _ = prepared(OPTIMIZERS["sgd"])
        lw.seed(1)
        run_loop(model, optimizer, source, EPOCHS, CRITERION)
        assert equal(model, expected)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("sgd", {}),
        ("adam", {}),
        ("adamw", {}),
        ("sgd", {"workers": 2}),
        ("sgd", {"augmented": True}),
        ("adam", {"augmented": True}),
        ("adamw", {"augmented": True}),
    ],
)
def test_another_seed_gives_other_bits(name, kinds):
    """The comparison can fail: one altered seed, with the same first weights, gives other bits."""
    expected, after = plain_model(name, **kinds)
    model, optimizer, loader = prepared(OPTIMIZERS[name], **kinds)
    lw.seed(1)
    run_loop(model, optimizer, loader, EPOCHS, CRITERION)
    assert not equal(model, expected)
    assert draws() != after


def test_a_validation_that_draws_gives_other_bits():
    """The comparison can fail: the plain loop without ``fork_rng`` around validation goes elsewhere."""
    expected, _ = plain_model("adamw")
    model, optimizer, loader = prepared(OPTIMIZERS["adamw"])
    for _ in range(EPOCHS):
        plain.train(model, optimizer, loader, 1, CRITERION)
        list(valid_loader())
    assert not equal(model, expected)
