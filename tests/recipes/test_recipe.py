"""The decorator and the job."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import loopwright as lw
from loopwright.errors import DataError, UsageError
from loopwright.recipes.recipe import info_of


def job(**changes):
    """Return a job with nothing but what it needs, and ``changes``."""
    model = nn.Linear(2, 1)
    given = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": nn.MSELoss(),
        "train_loader": [(torch.ones(3, 2), torch.ones(3, 1))],
    }
    return lw.Job(**(given | changes))


@lw.recipe
def two_words(data: Path, lr: float = 1, seed: int = 0) -> lw.Job:
    """Say what it does.

    And more.
    """
    return job(epochs=3, example=(data, lr, seed))


def test_a_recipe_stays_callable():
    """The decorator only marks the function."""
    assert two_words("x", lr=2).example == ("x", 2, 0)


def test_the_mark_tells_name_summary_and_place():
    """A recipe is called like its function, with dashes, and knows where it is written."""
    info = info_of(two_words)
    assert (info.name, info.summary) == ("two-words", "Say what it does.")
    assert info.defaults == {"lr": 1, "seed": 0}
    assert info.where.startswith(f"{__file__}:")


def test_build_fills_in_defaults_and_converts():
    """Building takes the given values, the defaults for the rest, and the annotated types."""
    data, lr, seed = info_of(two_words).build({"data": "folder", "seed": 3}).example
    assert (data, lr, seed) == (Path("folder"), 1.0, 3)
    assert isinstance(lr, float)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "needs --data"),
        ({"data": "x", "sead": 1}, "did you mean 'seed'"),
        ({"data": "x", "seed": 0.5}, "not of type int"),
        ({"data": "x", "lr": -1.0}, "above 0"),
    ],
)
def test_build_refuses_what_does_not_fit(values, says):
    """Missing, unknown and wrong values are named, the nearest name with them."""
    with pytest.raises(UsageError, match=says):
        info_of(two_words).build(values)


def test_a_recipe_returns_a_job():
    """A function that returns something else is told at its line what to return."""

    @lw.recipe
    def empty() -> lw.Job:
        """Forget to return."""

    with pytest.raises(UsageError, match="returned NoneType, not a Job"):
        info_of(empty).build({})


def test_the_decorator_takes_no_arguments():
    """``@lw.recipe("name")`` is an error that says how to write it."""
    with pytest.raises(UsageError, match=r"plain `@lw\.recipe`"):
        lw.recipe("name")


def test_a_job_needs_a_loss():
    """Without criterion and compute_loss there is nothing to train on."""
    with pytest.raises(UsageError, match="no loss"):
        job(criterion=None)
    assert job(criterion=None, compute_loss=lambda model, batch: model(batch[0]).sum())


def test_a_job_has_one_length():
    """Two lengths contradict each other."""
    with pytest.raises(UsageError, match="epochs, steps"):
        job(epochs=1, steps=2)


@pytest.mark.parametrize("name", ["train_loader", "valid_loader", "test_loader"])
def test_loaders_have_a_batch(name):
    """A loader without a batch is an error before the run begins."""
    with pytest.raises(DataError, match=f"{name} has no batch"):
        job(**{name: []})


def test_streams_have_no_length():
    """A loader over a stream does not know its length, and that is no error."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.ones(2), torch.ones(1)

    assert job(train_loader=torch.utils.data.DataLoader(Stream()))
