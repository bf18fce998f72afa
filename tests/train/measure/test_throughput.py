"""Samples a second and MFU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.measure.throughput import measure_peak, model_flops_utilization, throughput


def test_peak_is_the_fastest_product():
    """With a clock that ticks 1, 4 and 2 seconds a product, the peak is that of the fastest."""
    times = iter([0, 9, 10, 14, 14, 15, 20, 21, 23, 24, 28, 31, 99])
    peak = measure_peak("cpu", size=10, seconds=15, clock=lambda: next(times))
    assert peak == 2000.0


def test_measured_peak_is_positive():
    """A real clock gives a finite number."""
    assert 0 < measure_peak("cpu", size=8, seconds=0.0) < 1e18


def test_utilization_counts_forward_and_backward():
    """One sample's training is three forward passes."""
    assert model_flops_utilization(flops=10, samples_per_s=100, peak=6000) == 0.5


class FakeRun:
    """Remembers what was registered and logged."""

    def __init__(self, model=None):
        self.model, self.device = model, torch.device("cpu")
        self.functions, self.logged = {}, []

    def on(self, moment, function):
        self.functions[moment] = function

    def fire(self, moment, batch=None, **values):
        step = SimpleNamespace(batch=batch, log=lambda **v: self.logged.append(v))
        self.functions[moment](SimpleNamespace(run=self, step=step, values=values))


def test_callback_logs_the_share():
    """After each interval the next update logs mfu once."""
    run = FakeRun()
    throughput(flops=10, peak=6000)(run)
    run.fire("update")
    run.fire("log", samples_per_s=100)
    run.fire("update")
    run.fire("update")
    assert run.logged == [{"mfu": 0.5}]


def test_callback_counts_the_flops_itself():
    """Without FLOPs they come from the first sample of the first batch."""
    run = FakeRun(nn.Linear(3, 2))
    throughput(peak=6.0)(run)
    run.fire("update", batch=(torch.ones(5, 3), torch.ones(5)))
    run.fire("log", samples_per_s=1)
    run.fire("update")
    assert run.logged == [{"mfu": 6.0}]
    run = FakeRun(nn.ReLU())
    throughput(peak=6.0)(run)
    with pytest.raises(UsageError, match="could not be counted"):
        run.fire("update", batch=(torch.ones(5, 3), torch.ones(5)))
