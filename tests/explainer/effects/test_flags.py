"""What freezes tensors or lets them learn, before a training and inside of it; what else is told of them."""

from __future__ import annotations

import torch
from torch import nn

from explainer.recorded import recorded_here, said


def told(train, text):
    """What is said on the line that holds ``text``."""
    lines = [one for one in said(recorded_here(train, steps=2, timed=0)) if text in one]
    return [one.partition(" | ")[2] for one in lines]


def model():
    """Two layers, and a data set."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(8, 3)


def test_frozen_before_the_training():
    """Every run of the statement counts, however many there are."""

    def train():
        network, x = model()
        for p in [*network[0].parameters(), *[torch.ones(1, requires_grad=True) for _ in range(6)]]:
            p.requires_grad = False
        head = network[1]
        head.requires_grad_(True)
        for _ in range(3):
            network(x).sum().backward()

    frozen = "8 tensors of 22 numbers are set to require no gradient: backward leaves them out."
    assert frozen in told(train, "p.requires_grad = False")
    learning = (
        "2 tensors of 10 numbers are set to require gradients: backward will give them a `.grad`."
    )
    assert learning in told(train, "head.requires_grad_(True)")


def test_frozen_inside_a_step():
    """As half of a GAN's step does; it is part of the step."""

    def train():
        network, x = model()
        for _ in range(3):
            network.requires_grad_(False)
            y = network(x)
            network.requires_grad_(True)
            (network(x) - y).square().sum().backward()

    (first, *_) = told(train, "network.requires_grad_(False)")
    assert first.startswith("4 tensors of 26 numbers are set to require no gradient")


def test_sparse_gradients():
    """How many rows there are, since the norm's numbers are all of the table's."""

    def train():
        table = nn.Embedding(50, 3, sparse=True)
        for _ in range(2):
            table.zero_grad()
            table(torch.tensor([4, 7, 4])).sum().backward()

    assert "It is sparse: 2 of 50 rows; the others are 0 and take no memory." in told(
        train, "table(torch"
    )


def test_all_tensors_of_a_list_are_counted():
    """Of many the first ones are described."""

    def train():
        leaf = torch.ones(2, requires_grad=True)
        for _ in range(2):
            several = [leaf * at for at in range(9)]
            sum(several).sum().backward()

    assert "And 6 further tensors." in told(train, "several = ")


def test_several_models_of_one_statement():
    """Each is described."""

    def train():
        first, second = nn.Linear(2, 2), nn.Linear(2, 1)
        for _ in range(2):
            second(first(torch.ones(1, 2))).sum().backward()

    named = [
        one.partition(":")[0] for one in told(train, "first, second = ") if "parameters" in one
    ]
    assert named == ["`first`", "`second`"]


def test_a_scaler_beside_bfloat16():
    """The loss is multiplied for nothing; with fp16 it is not."""

    def train():
        network, x = model()
        scaler = torch.amp.GradScaler("cpu")
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = network(x).sum()
            scaler.scale(loss).backward()

    (first, *_) = told(train, "scaler.scale(loss)")
    assert first.endswith("bfloat16, which autocast casts to here, has no need of it.")


def test_a_closure_that_is_none():
    """As libraries hand on the argument that they were not given: there is nothing to call."""

    def train():
        network, x = model()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            network(x).sum().backward()
            optimizer.step(None)

    assert not any("closure" in one for one in told(train, "optimizer.step(None)"))
