"""The learning-rate range test."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from loopwright.errors import DataError, UsageError
from loopwright.train.measure.lr_range import LrRange, lr_range_test


def problem():
    """Return a model with dropout and BatchNorm, an optimizer with two groups, and a shuffled loader."""
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": model[3].parameters(), "lr": 0.2},
    ]
    loader = DataLoader(
        data, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    return model, torch.optim.SGD(groups, momentum=0.9), loader


def test_the_sweep_is_exponential_and_groups_keep_their_ratio():
    """Learning rates grow by one factor from low to high; the second group stays twice the first."""
    model, sgd, loader = problem()
    seen = []
    sgd.register_step_pre_hook(lambda o, a, k: seen.append([g["lr"] for g in o.param_groups]))
    found = lr_range_test(model, sgd, nn.MSELoss(), loader, low=1e-6, high=1e-3, steps=31)
    assert found.lrs == pytest.approx([1e-6 * 10 ** (i / 10) for i in range(31)])
    assert [lr for lr, _ in seen] == pytest.approx(found.lrs)
    assert [two / one for one, two in seen] == pytest.approx([2.0] * 31)
    assert all(math.isfinite(loss) for loss in found.losses)


def test_everything_is_put_back():
    """Weights, statistics, modes, momentum, learning rates and the loader's order are as before."""
    model, sgd, loader = problem()
    model[2].eval()
    twin = copy.deepcopy(model)
    order, state = loader.generator.get_state(), torch.get_rng_state()
    lr_range_test(model, sgd, nn.MSELoss(), loader)
    values = twin.state_dict()
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == [m.training for m in twin.modules()]
    assert not sgd.state
    assert [group["lr"] for group in sgd.param_groups] == [0.1, 0.2]
    assert torch.equal(loader.generator.get_state(), order)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_suggestion_trains():
    """The suggested learning rate lies where the loss falls, and the test stops where it explodes."""
    model, sgd, loader = problem()
    found = lr_range_test(model, sgd, nn.MSELoss(), loader)
    assert 1e-4 < found.suggestion < 1
    assert len(found.lrs) < 100
    assert found.smoothed[0] == pytest.approx(found.losses[0])


def test_a_flat_loss_has_no_suggestion():
    """Where nothing falls, nothing is suggested."""
    model, sgd, loader = problem()
    found = lr_range_test(
        model, sgd, nn.MSELoss(), loader, compute_loss=lambda m, b: m(b[0]).sum() * 0 + 1.0
    )
    assert found.suggestion is None
    assert "no suggestion" in str(found)


def test_a_nan_ends_the_test():
    """A loss that is not finite ends the curve before it."""
    model, sgd, loader = problem()
    losses = iter([1.0, 0.9, math.nan])
    found = lr_range_test(
        model, sgd, None, loader, compute_loss=lambda m, b: m(b[0]).sum() * 0 + next(losses)
    )
    assert found.losses == pytest.approx([1.0, 0.9])


def test_the_curve_is_drawn():
    """Text and HTML show the curve, the ends of the axis and the suggestion."""
    found = LrRange([1e-4, 1e-3, 1e-2, 1e-1], [3.0, 2.0, 1.0, 4.0], [3.0, 2.0, 1.0, 4.0], 1e-3)
    text = str(found)
    assert text.count("*") == 64
    assert "1.0e-04" in text
    assert "lr=0.001" in text
    page = found._repr_html_()
    assert page.count("<svg") == 1
    assert ">1e-3</text>" in page
    assert "stroke-dasharray" in page
    empty = LrRange([], [], [], None)
    assert "no step" in str(empty)
    assert "no step" in empty._repr_html_()


def test_impossible_ranges_and_empty_loaders():
    """A range that is none, and a loader without a batch, are errors."""
    model, sgd, loader = problem()
    for settings in ({"low": 1.0, "high": 0.1}, {"low": 0.0}, {"steps": 1}):
        with pytest.raises(UsageError, match="is none"):
            lr_range_test(model, sgd, nn.MSELoss(), loader, **settings)
    with pytest.raises(UsageError, match="neither a criterion"):
        lr_range_test(model, sgd, None, loader)
    with pytest.raises(DataError, match="no batch"):
        lr_range_test(model, sgd, nn.MSELoss(), [])
