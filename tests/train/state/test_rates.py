"""Whose learning rate it is, from what a run's folder says of its optimizers."""

from __future__ import annotations

import torch
from small import make, network, train
from torch import nn

import loopwright as lw
from loopwright.train.folder.reading import read_run
from loopwright.train.state.rates import rates, whose


def test_one_rate_has_no_owner(tmp_path):
    """One group, or several of one rate, need no label."""
    train(make(tmp_path / "one"))
    record = read_run(tmp_path / "one")
    assert record.lr_of == ""
    assert record.settings["optimizer"] == "SGD, lr 0.05"
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    groups = lw.parameter_groups(model, lr=0.1, weight_decay=0.1)
    train(make(tmp_path / "two", model=model, optimizer=torch.optim.SGD(groups)))
    assert len(torch.optim.SGD(groups).param_groups) == 2
    assert read_run(tmp_path / "two").lr_of == ""


def test_groups_with_rates_of_their_own(tmp_path):
    """The recorded rate is the first group's, by the group's name; the settings name all."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    groups = lw.parameter_groups(model, lr=0.1, patterns={"1": 0.3})
    train(make(tmp_path / "run", model=model, optimizer=torch.optim.SGD(groups)))
    record = read_run(tmp_path / "run")
    assert record.lr_of == "rest"
    assert record.settings["optimizer"] == "SGD, lr 0.1 (rest), 0.3 (1)"


def test_several_optimizers(tmp_path):
    """Each has its name, and the models are counted together."""
    models = {"one": network(), "other": network()}
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=lr)
        for (name, model), lr in zip(models.items(), (0.1, 0.2), strict=True)
    }
    run = make(tmp_path / "run", model=models, optimizer=optimizers)
    for step in run.loop([torch.ones(2, 3)], steps=1):
        for name in models:
            with step.only(run.optimizer[name]):
                step.backward(run.model[name](step.batch).mean())
                step.update()
    record = read_run(tmp_path / "run")
    assert record.lr_of == "one"
    assert record.settings["optimizer one"] == "SGD, lr 0.1"
    assert record.model.name == "one, other"
    assert record.model.parameters == 8


def test_a_strangers_folder():
    """What is no number or no name is passed over."""
    assert rates({"optimizer group 0 lr": "x", "optimizer group 1 lr": None}) == {}
    assert rates({"a group 0 lr": 0.1, "a group 1 lr": 0.2, "a group 1 name": ["x"]}) == {
        "group 0": 0.1, "group 1": 0.2
    }  # fmt: skip
    assert whose({}) == ""
