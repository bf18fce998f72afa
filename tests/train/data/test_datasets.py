"""Class weights and splits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from sklearn.utils.class_weight import compute_class_weight

from loopwright.errors import UsageError
from loopwright.train.data.datasets import class_weights, split


def test_class_weights_are_scikit_learns_balanced():
    """Without smoothing the weights are scikit-learn's "balanced"."""
    targets = torch.randint(5, (200,), generator=torch.Generator().manual_seed(0))
    expected = compute_class_weight("balanced", classes=np.arange(5), y=targets.numpy())
    np.testing.assert_allclose(class_weights(targets), expected, rtol=1e-6)
    assert class_weights(targets).dtype == torch.float32


def test_smoothing_is_samples_added_to_each_class():
    """Smoothing s gives what s more samples of every class would give."""
    targets = [0, 0, 0, 1]
    assert torch.equal(
        class_weights(targets, 3, smoothing=2), class_weights([*targets, *[0, 1, 2] * 2])
    )


def test_class_weights_refuse():
    """An absent class, a class too large, floats and nothing are errors."""
    with pytest.raises(UsageError, match="class 1 does not occur") as caught:
        class_weights([0, 2])
    assert "smoothing=1" in caught.value.hint
    with pytest.raises(UsageError, match="go up to 4"):
        class_weights([0, 4], classes=3)
    for bad in (torch.rand(3), [], [-1, 0]):
        with pytest.raises(UsageError, match="class_weights wants"):
            class_weights(bad)


def test_split_is_the_same_at_every_call_and_draws_nothing():
    """Neither the global generators nor their state matter; another seed is another split."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = split(range(100), (0.7, 0.2, 0.1), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second = split(range(100), (0.7, 0.2, 0.1), seed=3)
    assert [part.indices for part in first] == [part.indices for part in second]
    assert split(range(100), (0.7, 0.3), seed=4)[0].indices != first[0].indices


def test_split_of_seed_0_is_pinned():
    """The split of a seed never changes from one version to the next: test data stay test data."""
    assert split(range(12), (0.5, 0.25, 0.25))[2].indices == PINNED


PINNED = [1, 6, 11]


@given(
    total=st.integers(3, 200),
    cuts=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    classes=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_split_is_a_partition(total, cuts, classes, seed):
    """Every sample is in exactly one part, and sizes are the fractions' to within one sample."""
    fractions = [cut / sum(cuts) for cut in cuts]
    labels = None
    if classes:
        labels = torch.randint(classes, (total,), generator=torch.Generator().manual_seed(seed))
    assume(min(fractions) * total > 1.01)  # else a part may be empty, which is refused
    parts = split(range(total), fractions, seed=seed, stratify=labels)
    assert sorted(i for part in parts for i in part.indices) == list(range(total))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * total) <= 1
        if labels is not None:
            for label in labels.unique():
                share = (labels[part.indices] == label).sum() - fraction * (labels == label).sum()
                assert abs(float(share)) <= 3


def test_stratified_parts_keep_the_proportion():
    """A rare class is in every part in its proportion, also when labels are words."""
    labels = ["rare"] * 10 + ["common"] * 90
    for part in split(range(100), (0.8, 0.1, 0.1), stratify=labels):
        rare = sum(labels[i] == "rare" for i in part.indices)
        assert abs(rare - len(part) / 10) <= 1


def test_numbers_of_samples():
    """Whole numbers are numbers of samples."""
    assert [len(part) for part in split(range(10), (7, 3))] == [7, 3]


@pytest.mark.parametrize(
    "fractions", [(), (0.5, 0.6), (0.5,), (1, 1), (0.5, -0.5, 1.0), (5, 6), (0.99, 0.01)]
)
def test_impossible_fractions(fractions):
    """Shares that do not add up, or leave a part empty, are errors."""
    with pytest.raises(UsageError, match="fractions"):
        split(range(10), fractions)


def test_stratify_needs_one_class_for_each_sample():
    """A stratify of another length is an error with both."""
    with pytest.raises(UsageError, match="3 classes for 10 samples"):
        split(range(10), (0.5, 0.5), stratify=[1, 2, 3])
