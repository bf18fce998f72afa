"""What ``lw.fit`` refuses before its first turn, and what it says at its end."""

from __future__ import annotations

import pytest
import torch
from small import loader, network
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


def fit(**settings):
    """A short training with validation."""
    model = network()
    settings = {"epochs": 1, "progress": False, "valid_loader": loader(8)} | settings
    return lw.fit(
        model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(), loader(), **settings
    )


@pytest.mark.parametrize(
    ("settings", "slug", "hint"),
    [
        ({"epoch": 3}, "unknown-argument", "did you mean epochs=?"),
        ({"prec": "bf16"}, "unknown-argument", "did you mean precision=?"),
        ({"keep_best": "valid_loss"}, "unknown-mode", '("valid_loss", "min")'),
        ({"keep_best": ("valid_loss", "lowest")}, "unknown-mode", '("valid_loss", "min")'),
        (
            {"keep_best": ("valid_loss", "min"), "valid_loader": None},
            "no-validation",
            "valid_loader=",
        ),
    ],
)
def test_refused_before_the_first_turn(settings, slug, hint, tmp_path):
    """A keyword that nobody takes, or one of the wrong kind, is told at once, with what to write."""
    with pytest.raises(lw.UsageError) as caught:
        fit(out=tmp_path / "run", **settings)
    assert caught.value.slug == slug
    assert hint in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_test_is_told(capsys):
    """What the test data gave is the last line, and with which weights."""
    run = fit(test_loader=loader(8), progress=True)
    assert run.totals["test_loss"] > 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("tested: test_loss ")
    fit(test_loader=loader(8), progress=True, keep_best=("valid_loss", "min"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tested with the best weights: test_loss ")


@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(), nn.functional.cross_entropy], ids=["module", "function"]
)
def test_targets_that_are_probabilities(criterion):
    """One-hot and smoothed targets give the accuracy that classes give."""
    torch.manual_seed(0)
    x, classes = torch.randn(40, 3), torch.arange(40) % 4
    found = []
    for target in (classes, 0.9 * nn.functional.one_hot(classes, 4) + 0.025):
        torch.manual_seed(1)
        model = nn.Linear(3, 4)
        data = DataLoader(TensorDataset(x, target), batch_size=8)
        run = lw.fit(
            model, torch.optim.SGD(model.parameters(), lr=0.0), criterion, data, data, epochs=1,
            metrics=["accuracy", "top2"], progress=False,
        )  # fmt: skip
        values = run.history.epochs[-1].values
        found.append((values["valid_accuracy"], values["valid_top2"]))
        assert values["valid_accuracy"] == (model(x).argmax(1) == classes).double().mean().item()
    assert found[0] == found[1]
