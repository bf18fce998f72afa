"""A loop that waits for its data says how much, and how many workers would cure it."""

from __future__ import annotations

import time

import pytest
import torch
from small import make, train
from torch.utils.data import DataLoader, Dataset

from loopwright.train.display.waiting import advice


class Slow(Dataset):
    """Twenty-four samples that take a millisecond each."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        time.sleep(0.001)
        return torch.full((3,), float(index)) / 24, torch.zeros(1)


def test_it_is_noted():
    """The run's notes name the share, the time of a batch and a number of workers."""
    run = make()
    train(run, DataLoader(Slow(), 2), epochs=2)
    (note,) = [note for note in run.notes if "waited" in note]
    assert "the loop waited for data in " in note
    assert "num_workers=" in note


def test_memory_is_not_waited_for():
    """Data in memory come in less time than a worker would take to hand them over."""
    run = make()
    train(run, epochs=6)
    assert not [note for note in run.notes if "waited" in note]


@pytest.mark.parametrize(
    ("fetch", "work", "workers", "needed"),
    [(1.0, 1.0, 0, 2), (4.0, 1.0, 0, 5), (0.5, 1.0, 2, 3), (3.0, 1.0, 2, 8), (0.1, 1.0, 0, 2)],
)
def test_workers(fetch, work, workers, needed):
    """As many as make a batch in the time that the loop needs for one."""
    text = advice({"fetch": fetch, "forward": work}, 100, workers)
    assert f"num_workers={needed} " in text


@pytest.mark.parametrize(
    ("fetch", "work", "turns"),
    [(0.01, 1.0, 100), (0.09, 0.0, 100), (1.0, 1.0, 5), (0.015, 1.0, 10)],
)
def test_little_is_not_told(fetch, work, turns):
    """Up to 2 % of the time, below a millisecond a batch, or in a few turns nothing is said."""
    assert advice({"fetch": fetch, "forward": work}, turns, 0) is None


def test_data_without_workers():
    """A list or a function has none to add: only the share is told."""
    text = advice({"fetch": 1.0, "forward": 1.0}, 100, None)
    assert text == "the loop waited for data in 50 % of its time, 10.0 ms a batch"
