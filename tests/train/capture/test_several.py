"""Several turns in one call where a step is made of graphs: launched one after the other, waited for once."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import NonFiniteError
from loopwright.train.capture.cuda import CudaShape
from loopwright.train.capture.stretch import Stretches

pytestmark = pytest.mark.usefixtures("accelerator")

BATCH, SAMPLES, EPOCHS = 64, 64 * 12 + 5, 5

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),  # counts in Python: one turn at a time
}
SETTINGS = {
    "plain": {}, "clip": {"clip": 0.1}, "bf16": {"precision": "bf16"}, "ema": {"ema": 0.9},
    "each update": {"scheduler": lw.warmup_cosine(0.3)}, "each epoch": {"scheduler": "each epoch"},
}  # fmt: skip
QUICK = (("sgd", "clip"), ("sgd", "each update"))


def data(spoiled=None):
    """Sixteen numbers and a class; one sample may be spoiled."""
    x = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(3))
    y = x[:, :4].argmax(1)
    if spoiled is not None:
        x[spoiled] = float("inf")
    return TensorDataset(x, y)


def fitted(optimizer="sgd", *, capture, given=None, norm=True, **settings):
    """Fit; returns the run and all that must be equal."""
    lw.seed(0)
    layers = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4)]
    net = nn.Sequential(*(layers if norm else [layers[0], *layers[2:]]))
    made = OPTIMIZERS[optimizer](net.parameters())
    if settings.get("scheduler") == "each epoch":
        settings["scheduler"] = lw.per_epoch(torch.optim.lr_scheduler.StepLR(made, 1, 0.5))
    settings.setdefault("epochs", EPOCHS)
    batches = DataLoader(data() if given is None else given, BATCH, shuffle=True)
    run = lw.fit(
        net, made, nn.CrossEntropyLoss(), batches, capture=capture, progress=False, **settings
    )
    state = [v for s in made.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    curves = [torch.tensor(run.history.series[name].y) for name in ("loss", "lr", "grad_norm")]
    return run, [*(t.detach().clone() for t in net.state_dict().values()), *state, *curves,
                 torch.rand(2)]  # fmt: skip


def alike(one, other):
    """Whether two lists of tensors have the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_bits(optimizer, at_once):
    """Weights, buffers, losses, norms, the optimizer's state and the next draws are the plain loop's."""
    plain, expected = fitted(optimizer, capture=None)
    run, got = fitted(optimizer, capture="exact")
    assert alike(got, expected)
    assert run.totals == plain.totals
    assert [(row.turn, row.values) for row in run.history.epochs] == [
        (row.turn, row.values) for row in plain.history.epochs
    ]
    if optimizer == "adamw":
        assert not at_once
    else:
        assert sum(at_once) > 30
        assert not run.notes


@pytest.mark.parametrize(
    ("optimizer", "setting"),
    [
        pytest.param(
            optimizer, setting,
            marks=() if (optimizer, setting) in QUICK else pytest.mark.long,
        )
        for optimizer in ("sgd", "momentum fused") for setting in SETTINGS
    ],
)  # fmt: skip
def test_same_bits_with_settings(optimizer, setting, at_once):
    """A rate that moves at each update, and an average that sees each, keep to one turn at a time."""
    _, expected = fitted(optimizer, capture=None, **SETTINGS[setting])
    run, got = fitted(optimizer, capture="exact", **SETTINGS[setting])
    assert alike(got, expected)
    assert bool(at_once) == (setting not in ("each update", "ema")), run.notes


@pytest.mark.parametrize("limits", [{"epochs": None, "steps": 41}, {"evaluate_every": 5}])
def test_what_a_turn_is_for(limits, at_once):
    """No turn that ends something, or validates, is inside of a stretch."""
    valid = {"valid_loader": DataLoader(data(), 128)} if "evaluate_every" in limits else {}
    plain, expected = fitted(capture=None, **limits, **valid)
    run, got = fitted(capture="exact", **limits, **valid)
    assert at_once
    assert alike(got, expected)
    for name in plain.history.series:
        assert run.history.series[name] == plain.history.series[name]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum fused"])
def test_a_turn_that_is_not_finite_is_skipped(optimizer, at_once):
    """What came after it in the same call is put back, and made again."""
    given = {"given": data(spoiled=200), "nonfinite": "skip", "norm": False}
    plain, expected = fitted(optimizer, capture=None, **given)
    run, got = fitted(optimizer, capture="exact", **given)
    assert any(0 < one < 11 for one in at_once), "one broke off"
    assert run.nonfinite.skipped == plain.nonfinite.skipped == EPOCHS
    finite = [torch.nan_to_num(one, nan=7.0, posinf=8.0) for one in got]
    assert alike(finite, [torch.nan_to_num(one, nan=7.0, posinf=8.0) for one in expected])


def test_a_run_that_stops_there(at_once):
    """The message is that of the turns made one by one."""
    messages = []
    for capture in (None, "exact"):
        with pytest.raises(NonFiniteError) as caught:
            fitted(capture=capture, given=data(spoiled=200), norm=False, epochs=3)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "has not stepped" in messages[0]


def test_other_bits_are_found(at_once, monkeypatch):
    """Several turns in one call are compared with the same turns one by one, once."""
    right = CudaShape._at_once

    def swapped(self, batches, rows):
        return right(self, [batches[1], batches[0], *batches[2:]], rows)

    monkeypatch.setattr(CudaShape, "_at_once", swapped)
    _, expected = fitted(capture=None)
    run, got = fitted(capture="exact")
    assert alike(got, expected)
    assert len(at_once) == 1
    assert "several in one call had other bits" in run.notes[0]


def test_weights_that_are_too_many(at_once, monkeypatch):
    """Where a copy of all weights would cost too much, turns are made one by one."""
    monkeypatch.setattr("loopwright.train.capture.cuda.LARGEST", 100)
    _, expected = fitted(capture=None)
    run, got = fitted(capture="exact")
    assert alike(got, expected)
    assert not at_once
    assert not run.notes


def long(**settings):
    """Ten epochs of twelve turns; returns the weights and the totals."""
    lw.seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    whole = TensorDataset(*(part[: BATCH * 12] for part in data().tensors))
    run = lw.fit(
        net, optimizer, nn.CrossEntropyLoss(), DataLoader(whole, BATCH, shuffle=True), epochs=10,
        progress=False, **settings,
    )  # fmt: skip
    return [p.detach().clone() for p in net.parameters()], run.totals


def test_checkpoints_every_few_turns(tmp_path, at_once):
    """Each stands after the turn that it is due at, also at an epoch's beginning."""
    seen = {}
    for capture in (None, "exact"):
        turns = seen[capture] = []
        long(
            capture=capture, out=tmp_path / f"{capture}",
            checkpoint=lw.Checkpoint(every_steps=5),
            callbacks=[lambda run, turns=turns: run.on("checkpoint", lambda e: turns.append(e.turn))],
        )  # fmt: skip
    assert at_once
    assert seen[None] == seen["exact"]
    assert len(seen[None]) > 20


def test_a_signal_in_an_epochs_first_turns(tmp_path, monkeypatch):
    """The run goes on from where it was, inside of the epoch."""
    before, sent = CudaShape._at_once, []

    def interrupted(self, batches, rows):
        found = before(self, batches, rows)
        loop = self._run.active
        if loop.epoch == 5 and not sent:
            sent.append(loop.turn)
            os.kill(os.getpid(), signal.SIGINT)
        return found

    expected, totals = long(capture=None)
    monkeypatch.setattr(CudaShape, "_at_once", interrupted)
    with pytest.raises(KeyboardInterrupt):
        long(capture="exact", out=tmp_path / "run")
    assert sent
    got, counted = long(capture="exact", out=tmp_path / "run")
    assert alike(got, expected)
    assert counted["turns"] == totals["turns"]


def test_no_longer_than_half_a_second(at_once, monkeypatch):
    """Where turns are long, two of them are made in one call: nobody looks at a signal meanwhile."""
    monkeypatch.setattr("loopwright.train.capture.stretch.LONGEST", 1e-9)
    _, expected = fitted(capture=None)
    _, got = fitted(capture="exact")
    assert set(at_once) == {2}
    assert alike(got, expected)


def test_how_many_take_so_long():
    """Before the first stretch the turns so far tell, those of earlier processes among them."""
    stretches = Stretches(None)
    loop = SimpleNamespace(elapsed=lambda: 3600.0, turn=360_000, turns_before=359_990)
    assert stretches._in_time(loop) == 50
    stretches._each = 0.1
    assert stretches._in_time(loop) == 5
    stretches._each = 30.0  # the machine was asleep
    assert stretches._in_time(loop) == 2


@pytest.mark.parametrize("schedule", [lw.warmup_cosine(0.3), "exponential", None])
def test_a_rate_that_is_a_tensor(schedule):
    """A schedule writes into it: what it will be at later turns is not known beforehand."""
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        made = torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.01), fused=True)
        steps = schedule
        if schedule == "exponential":
            steps = lw.per_update(torch.optim.lr_scheduler.ExponentialLR(made, 0.99))
        run = lw.fit(
            net, made, nn.CrossEntropyLoss(), DataLoader(data(), BATCH, shuffle=True), epochs=EPOCHS,
            capture=capture, progress=False, scheduler=steps,
        )  # fmt: skip
        rates = torch.tensor(run.history.series["lr"].y)
        results.append([*(p.detach().clone() for p in net.parameters()), rates])
    assert alike(*results)


def test_graphs_are_let_go():
    """Giving up frees what was recorded at once: no cycle holds the graphs' memory."""
    net = nn.Linear(16, 4)
    run = lw.Run(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False)
    train = run.compile_step(lambda b: nn.functional.cross_entropy(run.model(b[0]), b[1]))
    gc.collect()
    gc.disable()
    try:
        for step in run.loop(DataLoader(data(), BATCH), epochs=2):
            train(step)
        shape = weakref.ref(next(iter(train._shapes.values())))
        assert shape().several is not None
        train.give_up("enough")
        assert shape() is None
    finally:
        gc.enable()
