"""Autocast regions and the scaler's account."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopwright.errors import NonFiniteError, UsageError
from loopwright.train.update.precision import SKIPS_IN_A_ROW, Precision, power_of_two_near

CPU = torch.device("cpu")


def test_unknown_precision():
    """A precision that is not known is an error that lists those that are."""
    with pytest.raises(UsageError, match="fp8") as caught:
        Precision("fp8", CPU)
    assert "bf16" in caught.value.hint


def test_fp32_does_nothing():
    """In fp32 there is no region, no scaler, and the loss is the very same object."""
    precision = Precision("fp32", CPU)
    loss = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([loss], lr=0.1)
    assert precision.region() is None
    assert precision.off() is None
    assert precision.scale(loss) is loss
    precision.unscale(optimizer)
    assert not precision.found_nonfinite(optimizer)
    precision.note(False)
    precision.settle(0)
    assert precision.state_dict() == {}


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_region_and_off(name, dtype):
    """The region computes in the low dtype; inside it, ``off`` switches back for a while."""
    precision = Precision(name, CPU)
    model = nn.Linear(2, 2)
    with precision.region():
        assert model(torch.ones(1, 2)).dtype == dtype
        with precision.off():
            assert model(torch.ones(1, 2)).dtype == torch.float32
        assert model(torch.ones(1, 2)).dtype == dtype
    assert not torch.is_autocast_enabled("cpu")


def scaled(precision, parameter, factor=1.0):
    """Give the parameter a scaled gradient of ``factor``; returns its optimizer."""
    parameter.grad = None
    precision.scale((parameter * factor).sum()).backward()
    return torch.optim.SGD([parameter], lr=0.1)


def test_unscale_divides_by_the_scale():
    """A scaled gradient is exactly the plain one after unscaling."""
    precision = Precision("fp16", CPU)
    parameter = nn.Parameter(torch.ones(3))
    optimizer = scaled(precision, parameter, 3.0)
    assert torch.equal(parameter.grad, torch.full((3,), 3.0 * 65536))
    precision.unscale(optimizer)
    assert torch.equal(parameter.grad, torch.full((3,), 3.0))
    assert not precision.found_nonfinite(optimizer)


def skip(precision, parameter, turn=0):
    """Go through one update with an infinite gradient."""
    optimizer = scaled(precision, parameter, float("inf"))
    precision.unscale(optimizer)
    assert precision.found_nonfinite(optimizer)
    precision.scaler.step(optimizer)
    precision.note(True)
    precision.settle(turn)


def test_skips_are_counted_and_bounded():
    """A skip halves the scale and counts; an update in between begins the row anew."""
    precision = Precision("fp16", CPU)
    parameter = nn.Parameter(torch.ones(1))
    skip(precision, parameter)
    assert (precision.skipped, precision.scaler.get_scale()) == (1, 32768.0)
    optimizer = scaled(precision, parameter)
    precision.unscale(optimizer)
    precision.scaler.step(optimizer)
    precision.note(False)
    precision.settle(1)
    for _ in range(SKIPS_IN_A_ROW - 1):
        skip(precision, parameter)
    with pytest.raises(NonFiniteError, match="turn 100"):
        skip(precision, parameter, turn=99)
    assert precision.skipped == SKIPS_IN_A_ROW + 1
    assert torch.isfinite(parameter).all()


def test_thrown_away_gradients_may_be_unscaled_again():
    """After ``forget_unscaled`` new gradients are unscaled as if nothing had been."""
    precision = Precision("fp16", CPU)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = scaled(precision, parameter)
    precision.unscale(optimizer)
    precision.forget_unscaled(optimizer)
    precision.scale((parameter * 2).sum()).backward()
    precision.unscale(optimizer)
    precision.forget_unscaled(torch.optim.SGD([parameter], lr=0.1))


def test_a_second_step_before_the_scale_settles():
    """One optimizer may step twice before the scale is adapted; what either found counts."""
    precision = Precision("fp16", CPU)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for factor in (float("inf"), 1.0):
        parameter.grad = None
        precision.scale((parameter * factor).sum()).backward()
        precision.unscale(optimizer)
        precision.scaler.step(optimizer)
        precision.note(factor != 1.0)
    precision.settle(0)
    assert precision.scaler.get_scale() == 32768.0
    assert precision.skipped == 1
    assert parameter.item() == pytest.approx(0.9)


def test_nothing_to_settle():
    """Without an update since, the scale stays and nothing is counted."""
    precision = Precision("fp16", CPU)
    precision.settle(0)
    assert precision.scaler.get_scale() == 65536.0


def test_state_round_trip():
    """Scale, growth and counts come back."""
    precision = Precision("fp16", CPU)
    skip(precision, nn.Parameter(torch.ones(1)))
    other = Precision("fp16", CPU)
    other.load_state_dict(precision.state_dict())
    assert other.scaler.get_scale() == 32768.0
    assert other.state_dict() == precision.state_dict()
    Precision("bf16", CPU).load_state_dict({})


@pytest.mark.parametrize(
    ("weight", "power"), [(1, 1), (3, 4), (8192, 8192), (6000, 8192), (0.3, 0.25), (0, 1)]
)
def test_power_of_two_near(weight, power):
    """The unit of a window is the nearest power of two, for numbers and tensors; 1 for 0."""
    assert power_of_two_near(weight) == power
    tensor = power_of_two_near(torch.tensor(weight))
    assert (tensor.ndim, tensor.item()) == (0, power)
