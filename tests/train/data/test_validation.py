"""Validation on other data than before is refused; what is new each time, or several, is not."""

from __future__ import annotations

import pytest
import torch
from small import loader, make, turn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

import loopwright as lw
from loopwright.errors import CheckpointError

EVERY = lw.Checkpoint(every_steps=1)


def data(value):
    """Six batches of one number."""
    return DataLoader(TensorDataset(torch.full((24, 3), value), torch.ones(24, 1)), batch_size=4)


def go(out, valid, stop=None, **settings):
    """Train three epochs with validation at each; fail at turn ``stop``."""
    run = make(out, checkpoint=EVERY, **settings)
    for step in run.loop(loader(), epochs=3):
        if step.index == stop:
            raise KeyError
        turn(run, step)
        if step.ends_epoch:
            for one in valid(step.epoch) if callable(valid) else [valid]:
                for _ in run.evaluate(one):
                    pass
    run.close()


def test_other_validation_data_is_refused(tmp_path):
    """Data that was the same at two validations and is another one in the next process is refused."""
    with pytest.raises(KeyError):
        go(tmp_path / "run", data(1.0), stop=13)
    with pytest.raises(CheckpointError) as caught:
        go(tmp_path / "run", data(2.0))
    assert "validated on other data" in caught.value.what
    assert "loader items" in caught.value.what
    assert "the content of the data has changed" in caught.value.hint


def test_a_split_without_a_generator(tmp_path):
    """The usual cause is named."""

    def split():
        part, _ = random_split(loader(48).dataset, [24, 24])
        return DataLoader(part, batch_size=4)

    with pytest.raises(KeyError):
        go(tmp_path / "run", split(), stop=13)
    with pytest.raises(CheckpointError, match="random_split without a generator"):
        go(tmp_path / "run", split())


def test_it_may_be_allowed(tmp_path):
    """A change that is named goes on."""
    with pytest.raises(KeyError):
        go(tmp_path / "run", data(1.0), stop=13)
    go(tmp_path / "run", data(2.0), allow_change=["items"])


def test_the_same_data_in_another_object(tmp_path):
    """Another object with the same content is the same data."""
    with pytest.raises(KeyError):
        go(tmp_path / "run", data(1.0), stop=13)
    go(tmp_path / "run", data(1.0))


@pytest.mark.parametrize(
    "valid",
    [
        lambda epoch: [data(float(epoch))],
        lambda epoch: [data(1.0), data(2.0)],
        lambda epoch: [DataLoader(Subset(loader().dataset, [epoch, 5]), batch_size=2)],
        lambda epoch: [data(1.0)] if epoch < 2 else [data(1.0), data(3.0)],
    ],
    ids=["new each time", "two from one line", "another part each time", "one more in the end"],
)
def test_what_differs_anyway(tmp_path, valid):
    """Data that is new each time, or several sets from one line, says nothing."""
    with pytest.raises(KeyError):
        go(tmp_path / "run", valid, stop=13)
    go(tmp_path / "run", valid)


def test_one_validation_says_nothing(tmp_path):
    """What was seen once may be new each time."""
    with pytest.raises(KeyError):
        go(tmp_path / "run", data(1.0), stop=7)
    go(tmp_path / "run", data(2.0))
