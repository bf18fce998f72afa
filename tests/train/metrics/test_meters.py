"""Averages without synchronisation."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from loopwright.errors import UsageError
from loopwright.train.metrics.meters import Accuracy, Mean, Sum, class_dim


def generator(seed: int = 0) -> torch.Generator:
    """Return random numbers of the test's own."""
    return torch.Generator().manual_seed(seed)


def test_mean_of_ragged_batches_is_the_data_sets():
    """Batches of 32, 32 and 7 give the mean over the 71 samples, not the mean of three means."""
    data = torch.randn(71, generator=generator(), dtype=torch.float64)
    mean = Mean()
    for part in data.split(32):
        mean.update(part)
    assert mean.compute() == pytest.approx(float(data.mean()), rel=1e-15)
    assert mean.compute() != pytest.approx(
        float(torch.stack([part.mean() for part in data.split(32)]).mean()), rel=1e-3
    )


def test_batch_means_weighted_by_their_size():
    """A batch's mean counts for the number that is given as its weight."""
    data = torch.randn(71, generator=generator(), dtype=torch.float64)
    mean = Mean()
    for part in data.split(32):
        mean.update(part.mean(), weight=len(part))
    assert mean.compute() == pytest.approx(float(data.mean()), rel=1e-14)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_weights_as_mask_number_and_tensor(as_tensor):
    """A mask picks elements, and a broadcast weight counts once for each element."""
    mean = Mean()
    mean.update(torch.tensor([1.0, 5.0, 9.0]), weight=torch.tensor([True, False, True]))
    weight = torch.tensor([[2.0], [0.0]]) if as_tensor else 0.0
    mean.update(torch.tensor([[1.0, 1.0], [7.0, 7.0]]), weight=weight)
    assert mean.compute() == (14 / 6 if as_tensor else 5.0)


def test_number_with_a_tensor_weight():
    """A Python number can be weighted by a tensor."""
    mean = Mean()
    mean.update(2.0, weight=torch.tensor(3))
    mean.update(6.0)
    assert mean.compute() == 3.0


def test_nothing_and_nan():
    """The mean of nothing is NaN, of zero weight too, and a NaN that came in stays."""
    mean = Mean()
    assert math.isnan(mean.compute())
    mean.update(torch.zeros(0))
    mean.update(torch.tensor(5.0), weight=0)
    assert math.isnan(mean.compute())
    mean.update(torch.tensor([1.0, math.nan]))
    mean.update(torch.ones(5))
    assert math.isnan(mean.compute())


def test_half_precision_products_do_not_overflow():
    """A float16 loss times its number of tokens is formed in a wider type."""
    mean = Mean()
    mean.update(torch.tensor(10.0, dtype=torch.float16), weight=60_000)
    mean.update(torch.tensor(10.0, dtype=torch.float16), weight=torch.tensor(60_000))
    assert mean.compute() == 10.0


def test_reset_and_state():
    """reset() forgets; a restored mean continues where the saved one was."""
    mean, other = Mean(), Mean()
    mean.update(torch.tensor([1.0, 2.0]))
    other.load_state_dict(mean.state_dict())
    for each in (mean, other):
        each.update(torch.tensor(6.0))
        assert each.compute() == 3.0
    mean.reset()
    assert math.isnan(mean.compute())
    assert "3" in repr(other)


def test_update_reads_nothing_back(monkeypatch):
    """update() and tensor() never bring a number to the host."""

    def refuse(*args, **kwargs):
        raise AssertionError("synchronised")

    for name in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    mean, total, accuracy = Mean(), Sum(), Accuracy(top_k=2, ignore_index=-100)
    mean.update(torch.ones(3, requires_grad=True), weight=torch.tensor([1, 0, 1]))
    mean.update(torch.ones(()), weight=2)
    total.update(torch.ones(3))
    accuracy.update(torch.randn(4, 3), torch.tensor([0, 1, 2, -100]))
    for each in (mean, total, accuracy):
        assert each.tensor().shape == ()


def test_sum():
    """A sum of nothing is 0, and integers, tensors and numbers add up."""
    total = Sum()
    assert total.compute() == 0.0
    total.update(torch.tensor([[1, 2], [3, 4]]))
    total.update(0.5)
    copy = Sum()
    copy.load_state_dict(total.state_dict())
    assert copy.compute() == total.compute() == 10.5
    total.reset()
    assert total.compute() == 0.0


@pytest.mark.parametrize("top_k", [1, 3])
def test_accuracy_equals_scikit_learn(top_k):
    """Top-1 and top-k over ragged batches are scikit-learn's numbers over the whole set."""
    logits = torch.randn(71, 6, generator=generator())
    target = torch.randint(6, (71,), generator=generator(1))
    accuracy = Accuracy(top_k=top_k)
    for outputs, labels in zip(logits.split(32), target.split(32), strict=True):
        accuracy.update(outputs, labels)
    if top_k == 1:
        expected = accuracy_score(target, logits.argmax(1))
    else:
        expected = top_k_accuracy_score(target, logits, k=top_k, labels=range(6))
    assert accuracy.compute() == pytest.approx(expected, rel=1e-15)


def test_accuracy_of_sequences_and_pictures():
    """Classes may be in dimension 1, as in cross_entropy, or last; ignored targets do not count."""
    logits = torch.randn(3, 5, 7, generator=generator())  # classes last: 3 sequences of 5 tokens
    target = torch.randint(7, (3, 5), generator=generator(1))
    target[:, -2:] = -100
    last, first = Accuracy(ignore_index=-100), Accuracy(ignore_index=-100)
    last.update(logits, target)
    first.update(logits.movedim(-1, 1), target)
    kept = target != -100
    expected = (logits.argmax(-1) == target)[kept].double().mean()
    assert last.compute() == first.compute() == pytest.approx(float(expected))


def test_accuracy_of_one_logit_and_of_labels():
    """A float output per target is a logit cut at the threshold; integer outputs are classes."""
    logits = torch.tensor([-1.0, 2.0, 0.5, -3.0])
    target = torch.tensor([0, 1, 0, 0])
    plain, column, share, labels = Accuracy(), Accuracy(), Accuracy(threshold=0.5), Accuracy()
    plain.update(logits, target.float())
    column.update(logits.unsqueeze(1), target)
    share.update(logits.sigmoid(), target)
    labels.update((logits > 0).long(), target)
    assert plain.compute() == column.compute() == share.compute() == labels.compute() == 0.75


def test_shapes_that_do_not_fit_are_said():
    """A target that fits no reading of the outputs is an error with both shapes."""
    with pytest.raises(UsageError, match=r"\(4, 3\).*\(4, 2, 5\)"):
        Accuracy().update(torch.zeros(4, 3), torch.zeros(4, 2, 5))
    with pytest.raises(UsageError, match="top_k is 5"):
        Accuracy(top_k=5).update(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(UsageError, match="top_k is 0"):
        Accuracy(top_k=0)
    assert class_dim(torch.zeros(3), torch.tensor(1)) == 0


def test_accuracy_state_and_reset():
    """The state of an accuracy moves to another one; reset forgets."""
    accuracy, other = Accuracy(), Accuracy()
    accuracy.update(torch.eye(3), torch.tensor([0, 1, 0]))
    other.load_state_dict(accuracy.state_dict())
    assert other.compute() == accuracy.compute() == pytest.approx(2 / 3)
    accuracy.reset()
    assert math.isnan(accuracy.compute())
    assert repr(other) == "Accuracy(0.666667)"
