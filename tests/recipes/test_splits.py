"""Three parts of a data set."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import DataError
from loopwright.recipes.splits import three_parts


@pytest.mark.parametrize("labels", [None, torch.arange(103) % 4])
def test_parts_are_disjoint_and_complete(labels):
    """Every sample lies in exactly one part, and the shares are as asked."""
    train, valid, test = three_parts(103, seed=1, valid=0.2, test=0.1, labels=labels)
    assert torch.cat([train, valid, test]).sort().values.tolist() == list(range(103))
    assert abs(len(valid) - 20.6) <= 1
    assert abs(len(test) - 10.3) <= 1


def test_parts_are_a_function_of_the_seed():
    """The same seed divides alike, whatever was drawn before; another seed divides differently."""
    first = three_parts(100, seed=1)
    torch.rand(3)
    assert all(map(torch.equal, first, three_parts(100, seed=1)))
    assert not torch.equal(first[1], three_parts(100, seed=2)[1])


def test_dividing_draws_nothing_from_the_global_generator():
    """The split does not move a random draw of the program."""
    state = torch.get_rng_state()
    three_parts(100, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_test_part_is_the_same_for_every_seed():
    """What validates under one seed is never the test of another."""
    tests = [three_parts(200, seed=seed)[2] for seed in range(5)]
    assert all(torch.equal(tests[0], other) for other in tests)


def test_labels_keep_their_shares():
    """With labels, a rare class is in every part in its share."""
    labels = (torch.arange(1000) % 20 == 0).long()  # 50 of 1000
    for part, share in zip(three_parts(1000, seed=3, labels=labels), (40, 5, 5), strict=True):
        assert abs(int(labels[part].sum()) - share) <= 1


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_samples_are_refused(count):
    """A part without a sample is an error that says how many there are."""
    with pytest.raises(DataError, match=f"{count} samples are too few"):
        three_parts(count, seed=0)
