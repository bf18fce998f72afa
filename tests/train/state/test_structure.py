"""A run that goes on is the one that it was: what changes the result and not the shapes is refused, too."""

from __future__ import annotations

import pytest
import torch
from small import dataset, turn
from torch import nn
from torch.optim.lr_scheduler import (
    ExponentialLR,
    LambdaLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, WeightedRandomSampler

import loopwright as lw
from loopwright.errors import CheckpointError, LoopwrightWarning


class Doubled(Dataset):
    """The samples of ``small``, each as it is or twice as large."""

    def __init__(self, scale=1.0, noise=0.0):
        self.samples, self.scale, self.noise = dataset(), scale, noise

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        x, y = self.samples[i]
        return x * self.scale + self.noise * torch.rand(()), y


def generator(seed):
    """A generator of a sampler's own."""
    return torch.Generator().manual_seed(seed)


def step_lr(gamma=0.5, inner=1):
    """A schedule per epoch."""
    return lambda o: lw.per_epoch(StepLR(o, inner, gamma))


def plateau(patience=3, name="train_loss"):
    """A schedule that looks at a value."""
    return lambda o: lw.on_metric(ReduceLROnPlateau(o, patience=patience), name)


def sequence(factor):
    """A schedule that is made of two."""
    return lambda o: lw.per_epoch(
        SequentialLR(o, [LinearLR(o, factor, 1.0, 2), ExponentialLR(o, 0.9)], [2])
    )


def build(out, *, act=None, p=0.1, momentum=0.1, order=(0, 1, 2, 3), schedule=None, data=None,
          loader=None, **settings):  # fmt: skip
    """A run and its loader; each argument is something that a person may change between two commands."""
    lw.seed(0)
    model = nn.Sequential(
        nn.Linear(3, 3), act or nn.ReLU(), nn.Dropout(p), nn.BatchNorm1d(3, momentum=momentum),
        nn.Linear(3, 1),
    )  # fmt: skip
    parameters = [*model[0].parameters(), *model[3].parameters(), *model[4].parameters()]
    parameters[:4] = [parameters[i] for i in order]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    run = lw.Run(
        out, model=model, optimizer=optimizer, scheduler=(schedule or step_lr())(optimizer),
        progress=False, checkpoint=lw.Checkpoint(every_steps=1), **settings,
    )  # fmt: skip
    return run, DataLoader(data or Doubled(), batch_size=4, **(loader or {"shuffle": True}))


def train(run, batches, fail=None):
    """Three epochs of six turns, or until the turn that fails."""
    for step in run.loop(batches, epochs=3):
        if step.index == fail:
            raise KeyError
        turn(run, step)


def begun(out, **settings):
    """Leave a run in its second epoch."""
    with pytest.raises(KeyError), build(out, **settings)[0] as run:
        train(run, build(None, **settings)[1], fail=8)


WEIGHTED = {"sampler": WeightedRandomSampler([1.0] * 24, 24)}
SKEWED = {"sampler": WeightedRandomSampler([float(i + 1) for i in range(24)], 24)}
REPLACED = {"sampler": RandomSampler(range(24), replacement=True)}
CHANGES = {
    "a layer's class": ({}, {"act": nn.Tanh()}, r"model 1 layer +ReLU\(\) +Tanh\(\)"),
    "a layer's option": ({}, {"p": 0.5}, r"model 2 layer +Dropout\(p=0.1.*Dropout\(p=0.5"),
    "a norm's momentum": ({}, {"momentum": 0.5}, r"model 3 layer .*momentum=0.1.*momentum=0.5"),
    "the parameters' order": (
        {}, {"order": (0, 2, 1, 3)}, r"optimizer group 0 order +0.weight … 4.bias"
    ),
    "a schedule's option": (
        {}, {"schedule": step_lr(0.9)}, r"scheduler optimizer gamma +0.5 +0.9"
    ),
    "a schedule's unit": (
        {}, {"schedule": lambda o: lw.per_update(StepLR(o, 1, 0.5))},
        r"scheduler optimizer steps per +epoch +update",
    ),
    "a schedule's class": (
        {}, {"schedule": lambda o: lw.per_epoch(ExponentialLR(o, 0.5))}, "ExponentialLR"
    ),
    "a schedule in a schedule": (
        {"schedule": sequence(0.1)}, {"schedule": sequence(0.2)},
        r"scheduler optimizer 0 start_factor +0.1 +0.2",
    ),
    "a warm-up": (
        {"schedule": lambda o: lw.warmup_cosine(0.2)}, {"schedule": lambda o: lw.warmup_cosine(0.5)},
        r"scheduler optimizer shape +Warmup.*0.2.*0.5",
    ),
    "a plateau's patience": (
        {"schedule": plateau(3)}, {"schedule": plateau(1)}, r"scheduler optimizer patience +3 +1"
    ),
    "a plateau's value": (
        {"schedule": plateau()}, {"schedule": plateau(name="valid_loss")},
        r"steps per +metric train_loss +metric valid_loss",
    ),
    "no schedule": ({}, {"schedule": lambda o: None}, "scheduler"),
    "the data": ({}, {"data": Doubled(2.0)}, r"loader items .*"),
    "fewer data": ({}, {"data": Subset(Doubled(), range(23))}, r"loader samples +24 +23"),
    "no shuffling": (
        {}, {"loader": {"shuffle": False}}, r"loader sampler +RandomSampler +SequentialSampler"
    ),
    "another sampler": ({}, {"loader": WEIGHTED}, r"loader sampler .* WeightedRandomSampler"),
    "other weights": ({"loader": WEIGHTED}, {"loader": SKEWED}, "loader weights"),
    "replacement": ({"loader": REPLACED}, {}, r"loader replacement +True +False"),
    "a generator": (
        {}, {"loader": {"shuffle": True, "generator": generator(1)}}, r"loader generator .* its own"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_result_is_refused(tmp_path, name):
    """The same folder with another program is refused before a turn, with what differs; nothing is harmed."""
    first, then, said = CHANGES[name]
    begun(tmp_path / "run", **first)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match=said) as caught:
        train(*build(tmp_path / "run", **then))
    assert caught.value.slug == "another-run"
    assert "allow_change=" in caught.value.hint
    assert before == {p: p.read_bytes() for p in before}


def test_the_same_program_goes_on(tmp_path):
    """The control: objects that are made anew in the same way are the same program, whatever is in them."""
    for kind, schedule in enumerate([step_lr(), plateau(), sequence(0.1)]):
        begun(tmp_path / str(kind), schedule=schedule)
        run, batches = build(tmp_path / str(kind), schedule=schedule)
        train(run, batches)
        assert run.totals["turns"] == 18


def test_functions_are_not_compared(tmp_path):
    """Two lambdas cannot be told apart: a schedule's function is neither refused nor promised."""
    begun(tmp_path / "run", schedule=lambda o: lw.per_update(LambdaLR(o, lambda n: 0.9**n)))
    train(*build(tmp_path / "run", schedule=lambda o: lw.per_update(LambdaLR(o, lambda n: 0.9**n))))


@pytest.mark.parametrize("schedule", [step_lr, sequence], ids=["one", "of two"])
def test_a_schedules_change_that_is_allowed_is_made(tmp_path, schedule):
    """``allow_change`` gives the schedule its new option, where the checkpoint would have brought the old."""
    begun(tmp_path / "run", schedule=schedule(0.5))
    names = (
        ["gamma"] if schedule is step_lr else ["start_factor", "lr"]
    )  # it begins with that factor
    run, batches = build(tmp_path / "run", schedule=schedule(0.9), allow_change=names)
    train(run, batches)
    scheduler = run.schedules["optimizer"].scheduler
    if schedule is step_lr:
        assert run.lr() == pytest.approx(0.01 * 0.5 * 0.9 * 0.9)
    else:
        assert scheduler._schedulers[0].start_factor == 0.9


def test_other_workers_are_said_where_the_data_may_draw(tmp_path):
    """Each worker has generators of its own: another number of them is another run, and is named."""
    for noise, said in ((0.0, None), (0.1, "resumed with 2 workers instead of 0")):
        out, data = tmp_path / str(noise), Doubled(noise=noise)
        begun(out, data=data)
        run, batches = build(out, data=data, loader={"shuffle": True, "num_workers": 2})
        if said is None:
            train(run, batches)
        else:
            with pytest.warns(LoopwrightWarning, match=rf"{said}.*\[resumed-elsewhere\]"):
                train(run, batches)
