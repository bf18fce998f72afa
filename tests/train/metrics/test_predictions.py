"""The confusion matrix and the worst samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from loopwright.errors import DataError, UsageError
from loopwright.train.metrics.predictions import Predictions
from nosync import NoSync


def answers(samples: int = 71, classes: int = 4):
    """Return logits, targets and one-channel pictures."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, classes, generator=random)
    target = torch.randint(classes, (samples,), generator=random)
    return logits, target, torch.rand(samples, 1, 8, 8, generator=random)


def filled(predictions: Predictions, *columns: torch.Tensor, size: int = 32) -> Predictions:
    """Feed ragged batches without synchronisation."""
    with NoSync():
        for batch in zip(*(column.split(size) for column in columns), strict=True):
            predictions.update(*batch)
    return predictions


def test_counts_equal_scikit_learn():
    """The matrix over ragged batches is scikit-learn's, rows are targets."""
    logits, target, images = answers()
    record = filled(Predictions(["a", "b", "c", "d"]), logits, target, images).record()
    np.testing.assert_array_equal(record.counts, confusion_matrix(target, logits.argmax(1)))
    assert record.classes == ["a", "b", "c", "d"]
    assert record.split == "valid"


@pytest.mark.parametrize("worst", [1, 5, 40, 100])
def test_the_worst_are_those_with_the_largest_loss(worst):
    """Whatever the batches, the kept samples are the first of all sorted by loss, with their inputs."""
    logits, target, images = answers()
    record = filled(Predictions(worst=worst), logits, target, images).record()
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    order = losses.argsort(descending=True)[:worst]
    assert [row.index for row in record.worst] == order.tolist()
    assert [row.loss for row in record.worst] == pytest.approx(losses[order].tolist())
    first = record.worst[0]
    assert first.target == str(int(target[order[0]]))
    assert first.predicted == str(int(logits[order[0]].argmax()))
    assert first.probability == pytest.approx(float(logits[order[0]].softmax(0).max()))
    assert all(row.image.startswith("data:image/png;base64,") for row in record.worst)


def test_inputs_go_with_their_samples():
    """Each kept sample has its own input, also after the batches were merged."""
    logits, target, _ = answers()
    inputs = torch.arange(71)
    predictions = Predictions(text=lambda one: f"sample {int(one)}")
    rows = filled(predictions, logits, target, inputs).record().worst
    assert [row.text for row in rows] == [f"sample {row.index}" for row in rows]
    assert all(row.image is None for row in rows)


def test_vectors_become_pictures_by_a_function():
    """image= turns a sample's input into a picture."""
    logits, target, images = answers()
    predictions = Predictions(image=lambda one: one.view(8, 8))
    rows = filled(predictions, logits, target, images.flatten(1)).record().worst
    assert all(row.image for row in rows)


def test_inputs_of_unequal_shapes_are_left_out():
    """Where batches differ in shape, or are no tensors, the samples are kept without pictures."""
    logits, target, _ = answers(4)
    predictions = Predictions()
    predictions.update(logits, target, torch.zeros(4, 1, 8, 8))
    predictions.update(logits, target, torch.zeros(4, 1, 9, 9))
    predictions.update(logits, target, {"pixels": 1})
    rows = predictions.record().worst
    assert len(rows) == 12
    assert all(row.image is None for row in rows)


def test_given_numbers_are_kept():
    """index= says which sample of the data set each one is."""
    logits, target, _ = answers(4)
    predictions = Predictions(worst=4)
    predictions.update(logits, target, index=torch.tensor([40, 30, 20, 10]))
    assert {row.index for row in predictions.record().worst} == {10, 20, 30, 40}


def test_one_logit_per_target():
    """Yes-or-no outputs are two classes; the probability is that of the answer."""
    logits = torch.tensor([[3.0], [-2.0], [1.0]])
    record = filled(Predictions(["no", "yes"]), logits, torch.tensor([0.0, 0.0, 1.0])).record()
    assert record.counts == [[1, 1], [0, 1]]
    worst = record.worst[0]
    assert (worst.index, worst.target, worst.predicted) == (0, "no", "yes")
    assert worst.probability == pytest.approx(1 / (1 + math.exp(-3)))


def test_ignored_targets_and_sequences():
    """Padding counts nowhere; sequences give a matrix over tokens and no single worst samples."""
    logits, target, _ = answers(6)
    target[0] = -100
    record = filled(Predictions(), logits, target).record()
    assert sum(map(sum, record.counts)) == 5
    assert 0 not in {row.index for row in record.worst}
    tokens = torch.randn(2, 3, 4)
    record = filled(Predictions(), tokens, torch.tensor([[0, 1, -100], [3, 3, 2]])).record()
    assert sum(map(sum, record.counts)) == 5
    assert record.worst == []


def test_a_nan_is_the_worst():
    """A sample whose logits are NaN comes first, and its loss is shown as NaN."""
    logits, target, _ = answers(5)
    logits[3] = torch.nan
    worst = filled(Predictions(), logits, target).record().worst[0]
    assert worst.index == 3
    assert math.isnan(worst.loss)


def test_classes_as_answers():
    """Integer outputs need the number of classes; wrong ones are the worst."""
    predicted, target = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])
    with pytest.raises(UsageError, match="not said how many"):
        Predictions().update(predicted, target)
    record = filled(Predictions(2), predicted, target).record()
    assert record.counts == [[1, 1], [0, 1]]
    assert record.worst[0].index == 2


def test_mistakes_are_said():
    """Too few names, too many classes, targets outside: errors with the numbers."""
    with pytest.raises(UsageError, match="4 classes and 2 are named"):
        Predictions(["a", "b"]).update(*answers(3)[:2])
    with pytest.raises(UsageError, match="1001 classes"):
        Predictions().update(torch.zeros(2, 1001), torch.zeros(2).long())
    predictions = Predictions()
    predictions.update(torch.zeros(3, 2), torch.tensor([0, 2, -1]))
    with pytest.raises(DataError, match="2 targets of the valid data"):
        predictions.record()
    predictions.reset()
    assert predictions.record().counts == []
