"""``lw.seed``, the generators' snapshots, and torch's deterministic mode."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from small import loader, make, turn

import loopwright as lw
from loopwright.errors import UsageError
from loopwright.train import prepare
from loopwright.train.process import randomness


def draws():
    """The next number of each generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002  the global one


def test_seed():
    """One number seeds Python's, numpy's and torch's generators; another gives other numbers in each."""
    lw.seed(7)
    first = draws()
    lw.seed(7)
    assert draws() == first
    lw.seed(8)
    assert all(one != other for one, other in zip(draws(), first, strict=True))


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, True, "7", None])
def test_no_seed(value):
    """What not every generator takes is refused with the value, and nothing is seeded."""
    lw.seed(7)
    first = draws()
    lw.seed(7)
    with pytest.raises(UsageError, match="0 to 4294967295"):
        lw.seed(value)
    assert draws() == first


def test_a_snapshot_is_put_back():
    """Every generator goes on from where it was."""
    before = randomness.snapshot()
    first = draws()
    assert not randomness.same(before, randomness.snapshot())
    randomness.restore(before)
    assert randomness.same(before, randomness.snapshot())
    assert draws() == first


def test_deterministic_while_the_run_is_open():
    """``deterministic=True`` is torch's deterministic mode in the loop; close() gives the mode back."""
    assert not torch.are_deterministic_algorithms_enabled()
    run = make(deterministic=True)
    for step in run.loop(loader(), steps=2):
        assert torch.are_deterministic_algorithms_enabled()
        turn(run, step)
    run.close()
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_mode_of_the_users_stays():
    """A mode that was on before is on afterwards."""
    torch.use_deterministic_algorithms(True)
    try:
        make(deterministic=True).close()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_deterministic_on_cuda(monkeypatch, given):
    """cuBLAS gets a fixed workspace, without which torch refuses a matrix product; the user's stays."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    try:
        assert prepare.deterministic(torch.device("cuda")) is False
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (given or ":4096:8")
    finally:
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
