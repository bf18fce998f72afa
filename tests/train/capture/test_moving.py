"""Updates whose numbers move, in a graph that finds them in memory: the bits of the update as it stands.

The kernels that stand for torch's on a GPU round otherwise on a CPU; here others stand for them, which have
the bits of torch's on a CPU. ``test_cuda.py`` has the same on a GPU.
"""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.capture import moving
from loopwright.train.capture.cuda import CudaShape
from loopwright.train.capture.record import Recording

pytestmark = pytest.mark.usefixtures("accelerator")

BATCH, SAMPLES, EPOCHS = 64, 64 * 14 + 5, 5


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "adam with decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "adamw of two groups": lambda p: torch.optim.AdamW(
        [{"params": list(p)[:2]}, {"params": list(p)[2:], "lr": 0.003, "weight_decay": 0.0}],
        lr=0.01, foreach=True,
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.003, momentum=0.5, foreach=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.03, foreach=True),
}  # fmt: skip
QUICK = ("adam", "adamw of two groups", "adagrad")
MOMENTUM = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True)}


def data():
    """Sixteen numbers and a class."""
    x = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(3))
    return TensorDataset(x, x[:, :4].argmax(1))


def fitted(optimizer, *, capture, given=None, **settings):
    """Fit; returns the run and all that must be equal."""
    lw.seed(0)
    net = nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4)
    )
    made = (OPTIMIZERS | MOMENTUM)[optimizer](list(net.parameters()))
    if settings.get("scheduler") == "each epoch":
        settings["scheduler"] = lw.per_epoch(torch.optim.lr_scheduler.StepLR(made, 1, 0.5))
    batches = DataLoader(data() if given is None else given, BATCH, shuffle=True)
    run = lw.fit(
        net, made, nn.CrossEntropyLoss(), batches, capture=capture, progress=False, epochs=EPOCHS,
        **settings,
    )  # fmt: skip
    state = [v for s in made.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    curves = [torch.tensor(run.history.series[name].y) for name in ("loss", "lr", "grad_norm")]
    rates = [torch.tensor(group["lr"]) for group in made.param_groups]
    return run, [*(t.detach().clone() for t in net.state_dict().values()), *state, *curves, *rates,
                 torch.rand(2)]  # fmt: skip


def alike(one, other):
    """Whether two lists of tensors have the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in OPTIMIZERS],
)
def test_same_bits(optimizer, kernels, at_once):
    """Weights, moments, counters, losses, norms and draws are the plain loop's, and turns go in a row."""
    _, expected = fitted(optimizer, capture=None)
    run, got = fitted(optimizer, capture="exact")
    assert alike(got, expected)
    assert sum(at_once) > 30, run.notes
    assert not run.notes


@pytest.mark.parametrize(
    "scheduler", [lw.warmup_cosine(0.3), pytest.param("each epoch", marks=pytest.mark.long)],
    ids=["each update", "each epoch"],
)  # fmt: skip
@pytest.mark.parametrize(
    "optimizer", ["adamw of two groups", "sgd", pytest.param("adamw", marks=pytest.mark.long)]
)
def test_schedules(optimizer, scheduler, kernels, at_once):
    """A rate that is another one at each update, or in each epoch."""
    _, expected = fitted(optimizer, capture=None, scheduler=scheduler)
    run, got = fitted(optimizer, capture="exact", scheduler=scheduler)
    assert alike(got, expected)
    assert sum(at_once) > 20
    assert not run.notes


def test_one_turn_at_a_time(kernels, monkeypatch):
    """A visible loop with ``compile_step``: each turn replays both graphs."""
    results = []
    for capture in (True, False):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        run = lw.Run(model=net, optimizer=OPTIMIZERS["adamw"](net.parameters()), progress=False)
        loss = nn.CrossEntropyLoss()
        train = run.compile_step(lambda b, run=run, loss=loss: loss(run.model(b[0]), b[1]))
        turn = train if capture else train.as_it_stands
        losses = [turn(step) for step in run.loop(DataLoader(data(), BATCH), epochs=4)]
        if capture:
            assert train.replayed > 30, train.why_not
            assert all(shape._update is not None for shape in train._shapes.values())
        state = [v for s in run.optimizer.state.values() for v in s.values()]
        results.append([*(p.detach() for p in net.parameters()), *state, *losses])
    assert alike(*results)


def test_not_finite(kernels, at_once):
    """What was made after it in the same call is put back: moments and counters, too."""
    x, y = (part.clone() for part in data().tensors)
    x[300] = float("inf")
    given = {"given": TensorDataset(x, y), "nonfinite": "skip"}
    _, expected = fitted("adamw", capture=None, **given)
    run, got = fitted("adamw", capture="exact", **given)
    assert at_once
    assert run.nonfinite.skipped == EPOCHS
    assert all(map(torch.equal, got[:4], expected[:4]))
    counters = [float(s["step"]) for s in run.optimizer.state.values()]
    assert counters == [EPOCHS * 14] * len(counters)


def test_not_finite_while_it_is_compared(kernels):
    """A turn that is left out, with what it did to a batch norm, says nothing about replays."""
    x, y = (part.clone() for part in data().tensors)
    x[::200] = float("nan")
    given = {"given": TensorDataset(x, y), "nonfinite": "skip"}
    _, expected = fitted("adamw", capture=None, **given)
    run, got = fitted("adamw", capture="exact", **given)
    assert not [note for note in run.notes if "not captured" in note]
    assert all(map(torch.equal, got[:7], expected[:7]))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_not_finite_at_first(optimizer, kernels):
    """The optimizer makes its state at the first update that is not left out."""
    x, y = (part.clone() for part in data().tensors)
    x[: BATCH * 2] = float("nan")
    found = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = nn.Linear(16, 4)
        made = (OPTIMIZERS | MOMENTUM)[optimizer](list(net.parameters()))
        run = lw.fit(
            net, made, nn.CrossEntropyLoss(), DataLoader(TensorDataset(x, y), BATCH),
            capture=capture, progress=False, epochs=EPOCHS, nonfinite="skip",
        )  # fmt: skip
        assert not [note for note in run.notes if "not captured" in note]
        state = [v for s in made.state.values() for v in s.values() if v is not None]
        found.append([*net.parameters(), *state])
    assert alike(*found)


def test_an_option_that_is_changed(kernels):
    """Betas and decay are in the graph: another one is recorded."""
    results = []
    for capture in (None, "exact"):

        def changes(run):
            def change(*_):
                run.optimizer.param_groups[0].update(betas=(0.8, 0.99), weight_decay=0.2)

            run.on("epoch_end", change)

        run, got = fitted("adamw", capture=capture, callbacks=[changes])
        assert not [note for note in run.notes if "not captured" in note]
        results.append(got)
    assert alike(*results)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_rate_that_is_0_at_first(optimizer, kernels, at_once):
    """It stands in the graph as a number that moves, and not as another one that is 0 as well."""

    def begins(made):
        return torch.optim.lr_scheduler.LambdaLR(
            made, lambda n: 0.0 if n < 12 or n % 7 < 4 else 1.0
        )

    results = []
    for capture in (None, "exact"):
        run, got = fitted(optimizer, capture=capture, scheduler=lw.per_update(begins))
        assert not run.notes
        results.append(got)
    assert alike(*results)
    assert at_once


def test_options_that_a_schedule_moves(kernels, at_once, monkeypatch):
    """A schedule that moves a beta at each update: nothing is recorded again and again."""
    recorded = []
    record = CudaShape._record_moving

    def records(shape):
        recorded.append(1)
        record(shape)

    monkeypatch.setattr(CudaShape, "_record_moving", records)
    results = []
    for capture in (None, "exact"):

        def cycle(optimizer):
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=EPOCHS * 15)

        _, got = fitted("adamw", capture=capture, scheduler=lw.per_update(cycle))
        results.append(got)
    assert alike(*results)
    assert not at_once
    assert len(recorded) < 3  # where its last betas stand still


def test_kernels_that_round_otherwise(at_once):
    """Where the kernels on the device have other bits, updates are launched as they stand, and it is said."""
    _, expected = fitted("adamw", capture=None)
    run, got = fitted("adamw", capture="exact")
    assert alike(got, expected)
    assert not at_once
    (note,) = run.notes
    assert note.startswith("the optimizer's update is launched as it stands: with its numbers on")


def test_a_large_state(kernels, at_once, monkeypatch):
    """Copies to compare it with are not made of what takes gigabytes."""
    monkeypatch.setattr(moving, "LARGEST", 1000)
    run, got = fitted("adamw", capture="exact")
    _, expected = fitted("adamw", capture=None)
    assert alike(got, expected)
    assert not at_once
    assert "three copies" in run.notes[0]


def test_no_room(kernels, at_once, monkeypatch):
    """Where there is no memory for the copies that are compared, updates are launched as they stand."""

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore")

    monkeypatch.setattr(moving.MovingUpdate, "_recognise", full)
    run, got = fitted("adamw", capture="exact")
    _, expected = fitted("adamw", capture=None)
    assert alike(got, expected)
    assert not at_once
    assert run.notes == [
        "the optimizer's update is launched as it stands: CUDA out of memory. Tried to allocate 20.00 MiB."
    ]


def test_numbers_that_are_not_known(kernels, at_once):
    """An optimizer that computes its numbers in another way keeps its own launches."""
    OPTIMIZERS["nadam"] = lambda p: torch.optim.NAdam(p, lr=0.01, foreach=True)
    try:
        _, expected = fitted("nadam", capture=None)
        run, got = fitted("nadam", capture="exact")
    finally:
        del OPTIMIZERS["nadam"]
    assert alike(got, expected)
    assert not at_once
    assert "in a way that is not known" in run.notes[0]


class Counting(torch.optim.AdamW):
    """Counts its own steps in an attribute."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.01, foreach=True)
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        return super().step(closure)


def test_an_optimizer_of_ones_own(kernels):
    """Its own code runs at each update, and what it counts is not raised by updates that are only tried."""
    net = nn.Linear(16, 4)
    own = Counting(net.parameters())
    run = lw.Run(model=net, optimizer=own, progress=False)
    train = run.compile_step(lambda b: nn.functional.cross_entropy(run.model(b[0]), b[1]))
    for step in run.loop(DataLoader(data(), BATCH), epochs=EPOCHS):
        train(step)
    assert train.replayed > 30
    assert own.steps == EPOCHS * 15
    assert "'steps' is another one at each update" in run.notes[0]
    assert [float(state["step"]) for state in own.state.values()] == [EPOCHS * 15] * 2


def test_what_is_kept(kernels, monkeypatch):
    """Neither the recordings that were compared nor what they made stay."""
    recordings = []
    begin = Recording.__init__

    def begins(self, **given):
        begin(self, **given)
        recordings.append(weakref.ref(self))

    monkeypatch.setattr(Recording, "__init__", begins)
    found = []

    def keeps(shape, record=CudaShape._record_update):
        gc.disable()
        record(shape)
        found.append(shape._moving)

    monkeypatch.setattr(CudaShape, "_record_update", keeps)
    try:
        fitted("adamw", capture="exact")
        assert found[0] is not None
        assert recordings
        assert not [one for one in recordings if one() is not None]
    finally:
        gc.enable()
