"""Means are the data set's, whatever the batches; what is not a number is shown as that."""

from __future__ import annotations

import json
import math

import plain
import pytest
import torch
from material import quiet_run, tensors
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


def ragged(seed=0):
    """Return a loader of batches of 32, 32 and 7 samples."""
    inputs, labels = tensors(seed, samples=71)
    return DataLoader(TensorDataset(inputs.double(), labels), batch_size=32)


def linear():
    """Return a classifier in float64 and an optimizer that does not move it."""
    torch.manual_seed(0)
    model = nn.Linear(8, 3).double()
    return model, torch.optim.SGD(model.parameters(), lr=0.0)


def whole_loss(model, loader):
    """Return the mean loss over the joined outputs of a loader."""
    inputs, labels = loader.dataset.tensors
    with torch.no_grad():
        return nn.functional.cross_entropy(model(inputs), labels).item()


def mean_of_means(model, loader):
    """Return what adding up ``loss.item()`` and dividing by the number of batches gives."""
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x), y).item() for x, y in loader]
    return sum(losses) / len(losses)


def test_row_04_ragged_last_batch_in_the_epochs_loss():
    """The epoch's training loss is the mean over samples, not over batches."""
    model, optimizer = linear()
    loader = ragged()
    run = quiet_run(model=model, optimizer=optimizer)
    for step in run.loop(loader, epochs=2):
        inputs, labels = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
        step.update()
    for row in run.history.epochs:
        assert row.values["train_loss"] == pytest.approx(whole_loss(model, loader), abs=1e-12)
    assert abs(mean_of_means(model, loader) - whole_loss(model, loader)) > 1e-4, "would be seen"


def test_row_04_ragged_last_batch_in_validation():
    """``lw.Mean`` over ``run.evaluate``, and the values of ``lw.fit``, are the data set's means."""
    model, optimizer = linear()
    loader = ragged(seed=1)
    run = lw.fit(
        model, optimizer, nn.CrossEntropyLoss(), ragged(), loader,
        epochs=1, metrics=["accuracy"], progress=False,
    )  # fmt: skip
    mean, correct = lw.Mean(), lw.Mean()
    values = run.history.epochs[0].values
    run = quiet_run(model=model, optimizer=optimizer)
    for inputs, labels in run.evaluate(loader):
        outputs = run.model(inputs)
        mean.update(nn.functional.cross_entropy(outputs, labels), weight=len(labels))
        correct.update(outputs.argmax(1) == labels)
    inputs, labels = loader.dataset.tensors
    accuracy = (model(inputs).argmax(1) == labels).double().mean().item()
    for loss in (
        mean.compute(),
        values["valid_loss"],
        plain.validate(model, loader, nn.CrossEntropyLoss()),
    ):
        assert loss == pytest.approx(whole_loss(model, loader), abs=1e-12)
    for share in (correct.compute(), values["valid_accuracy"]):
        assert share == pytest.approx(accuracy, abs=1e-12)
    assert abs(mean_of_means(model, loader) - whole_loss(model, loader)) > 1e-4, "would be seen"


def test_a_given_weight_weighs_the_shown_mean():
    """Tokens as weights, numbers or 0-d tensors, make the epoch's loss the mean over tokens."""
    for convert in (int, torch.tensor):
        model, optimizer = linear()
        run = quiet_run(model=model, optimizer=optimizer)
        losses, weights = [], [4, 30, 1]
        for step in run.loop(ragged(), epochs=1):
            inputs, labels = step.batch
            loss = nn.functional.cross_entropy(run.model(inputs), labels)
            losses.append(loss.item())
            step.backward(loss, weight=convert(weights[step.index]))
            step.update()
        expected = sum(x * w for x, w in zip(losses, weights, strict=True)) / sum(weights)
        assert run.history.epochs[0].values["train_loss"] == pytest.approx(expected, abs=1e-12)


def test_row_15_nan_hidden_in_the_log(tmp_path):
    """A logged NaN is a NaN in the curves, the epoch's mean and the file, and is no best value."""
    model, optimizer = linear()
    run = lw.Run(tmp_path, model=model, optimizer=optimizer, progress=False)
    for step in run.loop(ragged(), epochs=1):
        inputs, labels = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
        step.update()
        step.log(score=float("nan") if step.index == 1 else 1.0, tensor=torch.tensor(math.inf))
    assert not run.best
    run.close()
    assert [math.isnan(y) for y in run.history.series["score"].y] == [False, True, False]
    assert math.isnan(run.history.epochs[0].values["score"])
    assert run.history.epochs[0].values["tensor"] == math.inf
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line["values"]["score"] for line in lines if line["kind"] == "log"]
    assert logged == [1.0, "NaN", 1.0]


def test_row_15_nan_in_a_batchs_loss_is_no_number():
    """In fp16, where a NaN loss skips its update, the curve and the epoch's mean show NaN."""
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    run = quiet_run(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), precision="fp16"
    )
    inputs, labels = tensors(samples=8)
    for step in run.loop(
        [(inputs, labels), (inputs * math.nan, labels), (inputs, labels)], epochs=1
    ):
        step.backward(nn.functional.cross_entropy(run.model(step.batch[0]), step.batch[1]))
        step.update()
    assert [math.isnan(y) for y in run.history.series["loss"].y] == [False, True, False]
    assert math.isnan(run.history.epochs[0].values["train_loss"])
