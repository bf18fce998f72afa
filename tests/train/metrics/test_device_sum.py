"""Sums that stay on the device."""

from __future__ import annotations

import math

import pytest
import torch

from loopwright.train.metrics import device_sum
from loopwright.train.metrics.device_sum import DeviceSum


@pytest.fixture(params=["float64", "compensated float32"])
def precision(request, monkeypatch):
    """Run the test on a device with float64 and as if there were none."""
    if request.param != "float64":
        monkeypatch.setattr(device_sum, "has_float64", lambda device: False)
    return request.param


def test_small_terms_are_not_lost(precision):
    """Adding 0.1 to a large sum 20,000 times loses no more than the last bit of float32."""
    total = DeviceSum()
    total.add(torch.tensor(1e6))
    term = torch.tensor(0.1, dtype=torch.float32)
    for _ in range(20_000):
        total.add(term)
    expected = 1e6 + 20_000 * float(term)
    assert float(total.tensor()) == pytest.approx(expected, rel=6e-8)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float16, torch.bfloat16])
def test_every_type_is_added_exactly(precision, dtype):
    """Bools, integers and half precision do not overflow or round in their own type."""
    total = DeviceSum()
    total.add(torch.ones(70_000).to(dtype))
    total.add(torch.tensor(1).to(dtype))
    assert float(total.tensor()) == 70_001


def test_numbers_and_tensors_mix(precision):
    """A Python number is added on the host and counts all the same."""
    total = DeviceSum()
    total.add(2)
    total.add(torch.tensor([1.0, 2.0]))
    total.add(0.5)
    assert float(total.tensor()) == 5.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_stays(precision, value):
    """NaN and inf are neither dropped nor turned into each other."""
    total = DeviceSum()
    total.add(torch.tensor([value, 1.0]))
    total.add(torch.tensor(1.0))
    result = float(total.tensor())
    assert math.isnan(result) if math.isnan(value) else result == value


def test_state_continues_bit_for_bit(precision):
    """A sum restored half-way ends at the same bits as one that was never interrupted."""
    terms = torch.randn(200, generator=torch.Generator().manual_seed(0))
    whole, first, second = DeviceSum(), DeviceSum(), DeviceSum()
    for number, term in enumerate(terms):
        whole.add(term)
        (first if number < 77 else second).add(term)
        if number == 76:
            second.load(first.state())
    assert torch.equal(whole.state(), second.state())


def test_a_sum_from_a_float64_device_continues_without_float64(monkeypatch):
    """Moved to a device without float64, the digits below float32 go into the compensation."""
    total = DeviceSum()
    total.add(torch.tensor(1.0 + 2**-40, dtype=torch.float64))
    monkeypatch.setattr(device_sum, "has_float64", lambda device: False)
    total.add(torch.tensor(0.0))
    assert float(total.state()[1:].sum()) == 1.0 + 2**-40


def test_inference_mode_does_not_lock_the_sum():
    """A sum begun under inference_mode can be continued outside it, and the other way round."""
    total = DeviceSum()
    with torch.inference_mode():
        total.add(torch.tensor(1.0))
    total.add(torch.tensor(2.0))
    with torch.inference_mode():
        total.add(torch.ones(2))
    assert float(total.tensor()) == 5


def test_no_graph_is_kept():
    """Adding a loss that requires grad keeps no graph alive."""
    total = DeviceSum()
    total.add(torch.tensor(1.0, requires_grad=True) * 2)
    assert not total.tensor().requires_grad
