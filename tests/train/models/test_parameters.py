"""Freezing and parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.models.parameters import freeze, parameter_groups


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.LayerNorm((4, 4))  # two-dimensional weights
        self.rnn = nn.LSTM(4, 4)
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head.weight
        self.scale = nn.Parameter(torch.ones(()))


def test_freeze_by_name_module_and_glob():
    """Patterns set requires_grad alone; what they mean is returned, shared parameters once."""
    model = Net()
    modes = [module.training for module in model.modules()]
    assert freeze(model, "stem", "*.bias", "tied.weight") == [
        "stem.weight", "stem.bias", "norm.bias", "wide.bias", "head.bias", "tied.weight", "tied.bias",
    ]  # fmt: skip
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {
        "norm.weight", "wide.weight", "scale",
        "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0",
    }  # fmt: skip
    assert [module.training for module in model.modules()] == modes


def test_freeze_refuses_what_means_nothing():
    """A pattern without a match is an error with the nearest name, and nothing is frozen."""
    model = Net()
    with pytest.raises(UsageError, match="no parameter matches 'haed'") as caught:
        freeze(model, "stem", "haed")
    assert caught.value.hint == "did you mean 'head'?"
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(UsageError, match="no pattern"):
        freeze(model)


@pytest.mark.parametrize("no_decay", [True, False])
@pytest.mark.parametrize("patterns", [None, {"head": 1e-3, "*": {"lr": 1e-2, "betas": (0.5, 0.9)}}])
def test_each_trainable_parameter_is_in_exactly_one_group(patterns, no_decay):
    """Whatever the rules, the groups are a partition of what trains."""
    model = Net()
    freeze(model, "stem")
    groups = parameter_groups(model, lr=0.1, weight_decay=0.2, patterns=patterns, no_decay=no_decay)
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}
    torch.optim.AdamW(groups)


def test_biases_and_norms_do_not_decay():
    """Vectors, scalars, biases and every norm layer's weights are kept out of weight decay."""
    model = Net()
    decay, spared = parameter_groups(model, weight_decay=0.2)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decay["params"]} == {
        "stem.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight",
    }  # fmt: skip
    assert (decay["weight_decay"], spared["weight_decay"]) == (0.2, 0.0)
    assert "lr" not in decay


def test_the_first_pattern_counts():
    """Patterns are tried in their order, each with its own settings on top of the defaults."""
    model = Net()
    groups = parameter_groups(
        model, lr=0.1, patterns={"tied.weight": 0.5, "head": {"lr": 0.7, "weight_decay": 0.3}}
    )
    found = {group["name"]: group for group in groups}
    assert found["tied.weight"]["lr"] == 0.5
    assert found["tied.weight"]["params"][0] is model.head.weight
    assert found["head, no decay"]["params"][0] is model.head.bias
    assert (found["head, no decay"]["lr"], found["head, no decay"]["weight_decay"]) == (0.7, 0.0)
    assert found["rest"]["lr"] == 0.1
    assert "weight_decay" not in found["rest"]


def test_groups_refuse_what_means_nothing():
    """Frozen parts, misspelt parts, nothing to train and unknown shapes are errors."""
    model = Net()
    freeze(model, "stem")
    with pytest.raises(UsageError, match="no trainable parameter matches 'stem'"):
        parameter_groups(model, patterns={"stem": 0.1})
    freeze(model, "*")
    with pytest.raises(UsageError, match="nothing would train"):
        parameter_groups(model)
    with pytest.raises(UsageError, match="not known yet"):
        parameter_groups(nn.LazyLinear(2))
