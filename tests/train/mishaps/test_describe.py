"""Batches and samples in words, and which input is not finite."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import pytest
import torch

from loopwright.train.mishaps import describe


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Item:
    ids: Any
    mask: Any


class Graph:
    def to(self, device):
        return self


LONG = torch.zeros(2, dtype=torch.long)
NAN, INF = torch.nan, torch.inf


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (torch.zeros(2, 3), "float32 (2, 3)"),
        (torch.tensor(1), "int64 ()"),
        ([torch.zeros(2, 3), LONG], "float32 (2, 3), int64 (2)"),
        (Pair(torch.zeros(1), None), "float32 (1), None"),
        ({"x": LONG, "name": "a" * 50}, "{x: int64 (2), name: str 'aaaaaaaaaaaaaaaaaaa}"),
        (Item(LONG, [LONG, 3.5]), "Item(ids=int64 (2), mask=[int64 (2), 3.5])"),
        (Graph(), "Graph"),
        ((), "an empty tuple"),
        ([], "an empty list"),
        ([LONG] * 8, ", ".join(["int64 (2)"] * 6) + ", …"),
        (torch.zeros(2, device="meta"), "float32 (2) on meta"),
    ],
)
def test_batch(batch, words):
    """Kinds and shapes of everything in a batch, whatever it is made of, and never its values."""
    assert describe.batch(batch) == words


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (None, None),
        ([], None),
        (7, "sample 7"),
        ([7], "sample 7"),
        ([7, 8], "samples 7 to 8"),
        (torch.tensor([3, 1]), "samples 3, 1"),
        (["a", "b"], "samples a, b"),
        (list(range(0, 20, 2)), "samples 0, 2, 4, 6, 8, 10, … (10 in all)"),
    ],
)
def test_samples(indices, words):
    """Indices of any kind, a run of them as a range."""
    assert describe.samples(indices) == words


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ([torch.ones(4, 2), torch.zeros(4)], None),
        ([torch.ones(4, 2), LONG], None),
        ("text", None),
        (
            [torch.tensor([[1.0, 1.0], [1.0, NAN]])],
            "input 0 is nan in 1 of 4 values, first in sample 13",
        ),
        ({"a": torch.tensor([INF, 1.0])}, "input a is inf in 1 of 2 values, first in sample 11"),
        (torch.tensor(NAN), "the input is nan in 1 of 1 values"),
        (
            [torch.tensor([-INF]), torch.tensor([NAN])],
            "input 1 is nan in 1 of 1 values, first in sample 11",
        ),
        ([torch.zeros(0, 3), LONG], "input 0 is empty: float32 (0, 3)"),
        (
            Item(LONG, torch.tensor([[NAN]])),
            "input mask is nan in 1 of 1 values, first in sample 11",
        ),
        ([[torch.tensor([1.0, NAN])]], "input 0 0 is nan in 1 of 2 values, first in sample 13"),
    ],
)
def test_first_nonfinite_input(batch, words):
    """The first input with nan, else with inf, and in which sample; or that the batch is empty."""
    assert describe.first_nonfinite_input(batch, [11, 13]) == words


def test_row_without_indices():
    """Where nobody knows the samples, the row is named."""
    batch = torch.tensor([0.0, 0.0, torch.nan])
    assert describe.first_nonfinite_input(batch) == (
        "the input is nan in 1 of 3 values, first in row 2 of the batch"
    )
    assert describe.first_nonfinite_input(batch, torch.tensor([5, 6, 9])).endswith("sample 9")
