"""Programs that change something half-way: gone on with, they end as one that nobody stopped."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from small import dataset, equal, loader
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset

import loopwright as lw
from loopwright.errors import CheckpointError, LoopwrightWarning
from loopwright.train.data import attributes

HALF = 7
"""The turn in which programs change something; a run has three epochs of six turns."""


class Program:
    """An ordinary program; the ones below change a part of it."""

    def __init__(self, out):
        lw.seed(0)
        self.model = self.make_model()
        self.optimizer = self.make_optimizer()
        self.run = lw.Run(
            out, model=self.model, optimizer=self.optimizer, progress=False,
            checkpoint=lw.Checkpoint(every_steps=1), **self.settings(),
        )  # fmt: skip
        self.batches = self.make_batches()

    def make_model(self):
        return nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
        )

    def make_optimizer(self):
        return torch.optim.Adam(self.model.parameters(), lr=0.01)

    def make_batches(self):
        return loader(shuffle=True)

    def settings(self):
        return {}

    def before(self, step):
        """What a turn does first."""

    def loss(self, x, y):
        return nn.functional.mse_loss(self.model(x), y)

    def train(self, fail=None):
        """Train, or leave the loop before a turn's work."""
        for step in self.run.loop(self.batches, epochs=3):
            if step.index == fail:
                raise KeyError
            self.before(step)
            step.backward(self.loss(*step.batch))
            step.update()

    def result(self):
        """Everything that must be equal."""
        values = [v.clone() for v in self.model.state_dict().values()]
        held = [p.detach().clone() for g in self.optimizer.param_groups for p in g["params"]]
        return [*values, *held, torch.rand(2)]


class Thaws(Program):
    """A frozen layer is trained from the middle on."""

    def make_model(self):
        model = super().make_model()
        model[0].requires_grad_(requires_grad=False)
        return model

    def before(self, step):
        if step.index == HALF:
            self.model[0].requires_grad_(requires_grad=True)


class Freezes(Program):
    """A layer is trained up to the middle."""

    def before(self, step):
        if step.index == HALF:
            self.model[0].requires_grad_(requires_grad=False)


class ThawsAsAGroup(Thaws):
    """A frozen layer comes as a group of its own, with its own learning rate."""

    def make_optimizer(self):
        return torch.optim.Adam(self.model[1:].parameters(), lr=0.01)

    def before(self, step):
        super().before(step)
        if step.index == HALF:
            self.optimizer.add_param_group({"params": [*self.model[0].parameters()], "lr": 0.02})


class Uncovered(Program):
    """Gradients of parameters in no optimizer add up until they come into one."""

    def make_optimizer(self):
        return torch.optim.Adam(self.model[:2].parameters(), lr=0.01)

    def before(self, step):
        if step.index == HALF:
            self.optimizer.add_param_group({"params": [*self.model[4].parameters()]})


class OfNoModel(Program):
    """The optimizer trains a tensor that belongs to no model."""

    def make_optimizer(self):
        self.temperature = torch.zeros(1, requires_grad=True)
        return torch.optim.Adam([*self.model.parameters(), self.temperature], lr=0.01)

    def loss(self, x, y):
        return super().loss(x, y) * torch.exp(-self.temperature).sum() + self.temperature.sum()


class OfNoModelInAWindow(OfNoModel):
    """Its gradient waits for the end of a window, too."""

    def settings(self):
        return {"accumulate": 4}


class Remembering(nn.Module):
    """Holds a tensor that is no buffer, a list and a dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.memory = torch.zeros(1)
        self.seen = []
        self.means = {"all": torch.zeros(1)}

    def forward(self, x):
        out = self.linear(x) + self.memory + 0.01 * len(self.seen) + self.means["all"]
        if self.training:
            self.memory = self.memory * 0.9 + out.detach().mean().reshape(1) * 0.1
            self.seen.append(round(float(out.detach().sum()), 3))
            self.means["all"] += 0.01 * out.detach().mean()
        return out


class Remembers(Program):
    """A module of the user's remembers in plain attributes."""

    def make_model(self):
        return Remembering()


class Dropout(Program):
    """An option of a layer is changed by hand."""

    def before(self, step):
        if step.index == HALF:
            self.model[3].p = 0.5


class ByHand(Program):
    """An option of the optimizer is changed by hand."""

    def before(self, step):
        if step.index == HALF:
            self.optimizer.param_groups[0].update(lr=0.001, weight_decay=0.1)


class Levels(Dataset):
    """Samples that grow with a level."""

    level = 0

    def __len__(self):
        return 24

    def __getitem__(self, i):
        x, y = dataset()[i]
        return x * (1 + self.level), y


class Curriculum(Program):
    """The data set is told how far the training is."""

    def make_batches(self):
        self.data = Levels()
        self.data.level = 0
        return DataLoader(self.data, 4, shuffle=True)

    def before(self, step):
        self.data.level = step.index // 5


SHARED = np.random.default_rng(0)


class Drawing(Program):
    """The body draws from a global of its module and from variables of the function around the loop."""

    def train(self, fail=None):
        SHARED.bit_generator.state = np.random.default_rng(0).bit_generator.state
        numpys, torchs = np.random.default_rng(1), torch.Generator().manual_seed(3)
        pythons = random.Random(5)
        for step in self.run.loop(self.batches, epochs=3):
            if step.index == fail:
                raise KeyError
            x, y = step.batch
            noise = SHARED.random() + numpys.random() + pythons.random()
            step.backward(self.loss(x + noise + torch.rand((), generator=torchs), y))
            step.update()


class TwoLoaders(Program):
    """Two loaders, which are zipped by a function, are gone on with."""

    def make_batches(self):
        one, other = loader(shuffle=True), loader(shuffle=True)
        return lambda: zip(one, other, strict=True)

    def loss(self, one, other):
        return super().loss(*one) + 0.1 * super().loss(*other)


PROGRAMS = [
    Program, Thaws, Freezes, ThawsAsAGroup, Uncovered, OfNoModel, OfNoModelInAWindow, Remembers, Dropout,
    ByHand, Curriculum, Drawing, TwoLoaders,
]  # fmt: skip


def gone_on(kind, out, fail):
    """The result of a program that stopped before a turn and was given again."""
    first = kind(out)
    with pytest.raises(KeyError), first.run:
        first.train(fail)
    again = kind(out)
    torch.manual_seed(99)
    with again.run:
        again.train()
    return again.result()


@pytest.mark.filterwarnings("ignore:.*uncovered-parameters")
@pytest.mark.parametrize(
    "fail", [pytest.param(4, marks=pytest.mark.long), 9, pytest.param(16, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_goes_on(tmp_path, kind, fail):
    """Before the change, after it, and much later: the same bits."""
    whole = kind(None)
    whole.train()
    expected = whole.result()
    assert equal(gone_on(kind, tmp_path / "run", fail), expected)


@pytest.mark.filterwarnings("ignore:.*uncovered-parameters")
@pytest.mark.parametrize("kind", PROGRAMS[1:])
def test_the_control(kind):
    """Each change changes the bits: equal ones mean something."""
    ordinary, other = Program(None), kind(None)
    ordinary.train()
    other.train()
    assert not equal(ordinary.result()[:-1], other.result()[:-1])


def test_a_group_of_nobodys_is_refused(tmp_path):
    """A group of tensors of no model that was added later cannot be added again: it is said."""

    class Adds(Program):
        def before(self, step):
            if step.index == HALF:
                extra = torch.zeros(1, requires_grad=True)
                self.optimizer.add_param_group({"params": [extra]})

    with pytest.raises(CheckpointError, match="different number of parameter groups"):
        gone_on(Adds, tmp_path / "run", 9)


def test_an_iterator_beside_the_loops_is_named(tmp_path):
    """The body's own iterator begins anew, and that is said with its name."""

    class Beside(Program):
        def train(self, fail=None):
            unlabelled = iter(DataLoader(dataset(), 1, shuffle=True))
            for step in self.run.loop(self.batches, epochs=3):
                if step.index == fail:
                    raise KeyError
                x, y = next(unlabelled)
                step.backward(
                    self.loss(*step.batch) + 0.1 * self.loss(x.repeat(2, 1), y.repeat(2, 1))
                )
                step.update()

    with pytest.warns(LoopwrightWarning, match=r"unlabelled: .* begins anew.*\[other-order\]"):
        gone_on(Beside, tmp_path / "run", 9)


def test_what_is_read_and_put_back():
    """Attributes come back in place, nan and signs included; what is large is left alone."""
    module = Remembering()
    module.large, module.layers = torch.zeros(attributes.LARGE), [nn.Linear(1, 1)]
    module.odd, module.pair = float("nan"), (1, torch.tensor([-0.0, float("nan")]))
    module.many = list(range(attributes.MANY))
    before, held = attributes.read(module), module.seen
    assert {"memory", "seen", "means", "odd", "pair"} <= before.keys()
    assert not {"large", "layers", "many", "linear"} & before.keys()
    assert attributes.same(before, attributes.read(module))
    module(torch.ones(2, 3))
    module.linear.weight.requires_grad_(requires_grad=False)
    module.pair = (1, torch.tensor([0.0, float("nan")]))
    after = attributes.read(module)
    moved = {name for name in after if not attributes.same(after[name], before[name])}
    assert moved == {"memory", "seen", "means", "pair"}
    for name, value in before.items():
        attributes.put(module, name, value)
    assert attributes.same(before, attributes.read(module))
    assert module.seen is held
    layer = attributes.read(module.linear)
    attributes.put(module.linear, "weight.requires_grad", True)
    assert not layer["weight.requires_grad"]
    assert module.linear.weight.requires_grad


def test_what_is_computed_anew_is_no_state():
    """The weight that pruning computes in each forward pass is neither read nor put back."""

    class Mine(nn.Linear):
        pass

    pruned = Mine(3, 1)
    prune.l1_unstructured(pruned, "weight", 1)
    with torch.no_grad():
        pruned(torch.ones(1, 3))
    assert "weight" not in attributes.read(pruned)
