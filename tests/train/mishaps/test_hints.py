"""What torch's messages mean: each is made by torch itself, so a changed wording is found here."""

from __future__ import annotations

import pytest
import torch
from small import loader, make
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, nll_loss
from torch.utils.data import DataLoader

from loopwright.train.mishaps.hints import hint_for


def error_of(function) -> Exception:
    """What a function raises."""
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def twice():
    x = torch.ones(2, requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    loss.backward()


def in_place():
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    y += 1
    y.sum().backward()


class Late(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        import time

        time.sleep(30)


X, Y = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)
CASES = [
    (lambda: nn.Linear(3, 2)(X.double()), "end the data set with x.float()"),
    (lambda: nn.Linear(3, 2)(X.long()), "whole numbers where the layer takes floats"),
    (lambda: nn.Linear(3, 2)(X.half()), "the inputs are float16 and the layer is float32"),
    (lambda: nn.Conv2d(1, 2, 3)(torch.zeros(1, 1, 5, 5).double()), "end the data set with x.float()"),
    (lambda: nn.Linear(5, 2)(X), "the layer takes 5 features and was given 3 (a batch of 4 rows)"),
    (lambda: nn.Conv2d(3, 2, 3)(torch.zeros(1, 1, 5, 5)), "takes 3 channels and the pictures have 1"),
    (lambda: cross_entropy(X, Y[:2]), "the model gives 4 rows for 2 labels"),
    (lambda: cross_entropy(X, Y.float()), "labels.long()"),
    (lambda: nll_loss(X, Y.float()), "labels.long()"),
    (lambda: cross_entropy((X,), Y), "the model returns a tuple"),
    (lambda: nn.CrossEntropyLoss()(None, Y), "the model returns None"),
    (lambda: mse_loss({"a": X}, X), None),
    (lambda: nn.Linear(3, 2)("text"), "the batches hold str"),
    (lambda: nn.BatchNorm1d(3)(X[:1]), "drop_last=True"),
    (lambda: nn.Linear(3, 2)(X.to("meta")), "device=run.device"),
    (twice, "step.backward(loss_1 + loss_2)"),
    (in_place, "set_detect_anomaly(True)"),
    (lambda: torch.optim.SGD([], lr=1), "the model has no parameters"),
    (lambda: torch.zeros(1 << 50), "smaller batches with accumulate"),
    (lambda: bytearray(1 << 60), "smaller batches with accumulate"),
    (lambda: next(iter(DataLoader(Late(), num_workers=1, timeout=0.01))), "num_workers=0 to see"),
    (lambda: nn.Linear(3, 2).nothing, None),
]  # fmt: skip


@pytest.mark.parametrize(("function", "words"), CASES)
def test_message(function, words):
    """Each kind of mistake gets its hint from the message that torch really gives."""
    hint = hint_for(error_of(function))
    if words is None:
        assert hint is None
    else:
        assert words in hint
        assert "\n" not in hint


@pytest.mark.parametrize(
    ("labels", "shape", "settings", "words"),
    [
        ([0, 1, 2, 0], (4, 2), {}, "sample 12 has label 2, 2 classes: make its last layer 3"),
        ([0, 1, 9, 0], (4, 2), {}, "sample 12 has label 9, 2 classes: make its last layer 10"),
        ([0, -1, 0, 0], (4, 2), {}, "sample 11 has label -1, 2 classes: for 'no label'"),
        ([-100, 0, 0, 5], (4, 5), {}, "sample 13 has label 5, 5 classes"),
        ([7, 0, 8, 0], (4, 5), {"ignore_index": 7}, "sample 12 has label 8, 5 classes"),
        ([[0, 1], [0, 3]], (2, 3, 2), {}, "sample 11 has label 3, 3 classes"),
    ],
)
@pytest.mark.parametrize("how", ["criterion", "function"])
def test_label(labels, shape, settings, words, how):
    """A label out of range is named with its sample and the classes, whatever stands around it."""
    outputs, target = torch.zeros(shape), torch.tensor(labels)
    if how == "criterion":
        error = error_of(lambda: nn.CrossEntropyLoss(**settings)(outputs, target))
    else:
        error = error_of(lambda: cross_entropy(outputs, target, **settings))
    assert isinstance(error, IndexError)
    classes = shape[1]
    said = f", and the model gives {classes} classes, 0 to {classes - 1}"
    assert hint_for(error, [10, 11, 12, 13]).replace(said, f", {classes} classes").startswith(words)


def test_a_step_taken_for_a_batch():
    """Who unpacks the step is told where the batch is."""
    run = make()
    for wrong in (lambda step: next(iter([a for a, b in [step]])), lambda step: step.to("cpu")):
        for step in run.loop(loader(), steps=1):
            assert "inputs, labels = step.batch" in hint_for(error_of(lambda: wrong(step)))  # noqa: B023
            step.skip()


def test_label_without_indices():
    """Where nobody knows the samples, the row of the batch is named."""
    error = error_of(lambda: cross_entropy(torch.zeros(2, 2), torch.tensor([0, 2])))
    assert hint_for(error).startswith("row 1 of the batch has label 2")
