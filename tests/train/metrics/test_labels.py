"""Classes from outputs, counted without synchronisation."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import UsageError
from loopwright.train.metrics.labels import count, read_labels
from nosync import NoSync


def test_every_form_of_outputs():
    """Logits, classes last, one logit and classes themselves are told apart by their shape."""
    logits = torch.randn(4, 3)
    target = torch.tensor([0, 1, 2, 0])
    assert torch.equal(read_labels(logits, target).predicted, logits.argmax(1))
    tokens = torch.randn(2, 5, 7)
    labels = read_labels(tokens, torch.zeros(2, 5))
    assert (labels.predicted.shape, labels.classes) == ((10,), 7)
    one = read_labels(torch.tensor([[0.3], [-0.3]]), torch.tensor([1.0, 0.0]))
    assert one.predicted.tolist() == [1, 0]
    assert (one.classes, one.binary) == (2, True)
    assert read_labels(target, target).classes is None


def test_several_answers_are_refused():
    """Several yes-or-no answers for each sample are not read as classes."""
    with pytest.raises(UsageError, match="yes-or-no"):
        read_labels(torch.randn(4, 3), torch.zeros(4, 3))


def test_count_is_a_masked_bincount():
    """Counts equal bincount of what the mask keeps, whatever the rest holds, and wait for nothing."""
    index = torch.randint(-5, 12, (500,), generator=torch.Generator().manual_seed(0))
    where = (index >= 0) & (index < 8)
    with NoSync():
        counts = count(index, 8, where)
    assert torch.equal(counts, torch.bincount(index[where], minlength=8))
