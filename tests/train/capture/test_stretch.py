"""``lw.fit`` lets turns be replayed several at a time, with the bits of turns made one by one."""

from __future__ import annotations

import signal

import pytest
import torch
from accelerator import finite_turns
from capturable import MODELS, OPTIMIZERS, SETTINGS, numbers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import NonFiniteError
from loopwright.train.capture.stretch import Stretches
from loopwright.train.capture.turns import Turns

BATCH, SAMPLES = 64, 64 * 12 + 5  # memory of such a batch begins where batches of a chunk may


@pytest.fixture
def stretches(monkeypatch):
    """How many turns each call made; some are made again one by one."""
    return finite_turns(monkeypatch, Turns, "__call__")


def data(model, samples=SAMPLES):
    """Enough of it for some batches."""
    if model == "attention":
        draw = torch.Generator().manual_seed(3)
        text = torch.randint(16, (samples, 9), generator=draw)
        return TensorDataset(text[:, :-1].contiguous(), text[:, 1:].contiguous())
    shape = {"perceptron": (6,), "batch norm": (1, 8, 8), "recurrent": (5, 4)}.get(model, (3,))
    classes = {"perceptron": 4, "batch norm": 3}.get(model)
    return numbers(*shape, classes=classes, samples=samples)


class Recurrent(nn.Module):
    """Four numbers a step, so that batches are aligned."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.out = nn.Linear(5, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def fitted(model="perceptron", optimizer="adamw", *, capture, out=None, given=None, **settings):
    """Fit; returns the run and all that must be equal."""
    lw.seed(0)
    build, _, criterion = MODELS[model]
    net = Recurrent() if model == "recurrent" else build()
    made = OPTIMIZERS[optimizer](net.parameters())
    if settings.get("scheduler") == "per epoch":
        settings["scheduler"] = lw.per_epoch(torch.optim.lr_scheduler.StepLR(made, 1, 0.5))
    settings.setdefault("epochs", 4)
    batches = DataLoader(data(model) if given is None else given, batch_size=BATCH, shuffle=True)
    run = lw.fit(
        net, made, criterion, batches, capture=capture, out=out, progress=False, **settings
    )
    state = [v for s in made.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    curves = [torch.tensor(run.history.series[name].y) for name in ("loss", "lr", "grad_norm")]
    weights = [t.detach().clone() for t in net.state_dict().values()]
    return run, [*weights, *state, *curves, torch.rand(2)]


def alike(one, other):
    """Whether two lists of tensors have the same bits, nan included."""
    return len(one) == len(other) and all(
        torch.equal(torch.nan_to_num(a, nan=7.0), torch.nan_to_num(b, nan=7.0))
        for a, b in zip(one, other, strict=True)
    )


def counts(run):
    """What the run has counted, and its rows."""
    return run.totals, [(row.turn, row.values) for row in run.history.epochs]


QUICK = [("perceptron", "adamw"), ("perceptron", "momentum"), ("batch norm", "adamw")]
PAIRS = [*((model, "adamw") for model in MODELS), *(("perceptron", name) for name in OPTIMIZERS)]


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long)
        for pair in dict.fromkeys(PAIRS)
    ],
)
def test_same_bits(model, optimizer, stretches):
    """Weights, buffers, losses, norms, the optimizer's state and the next draws are the plain loop's."""
    plain, expected = fitted(model, optimizer, capture=None)
    run, got = fitted(model, optimizer, capture="exact")
    assert sum(stretches) > 20, run.notes
    assert alike(got, expected)
    assert counts(run) == counts(plain)
    assert not run.notes


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("optimizer", [pytest.param("momentum", marks=pytest.mark.long), "adamw"])
def test_same_bits_with_settings(optimizer, setting, stretches):
    """Clipping, schedules and bf16 are within; an average has to see each update."""
    plain, expected = fitted("perceptron", optimizer, capture=None, **SETTINGS[setting])
    run, got = fitted("perceptron", optimizer, capture="exact", **SETTINGS[setting])
    assert bool(stretches) == (setting != "ema")
    assert alike(got, expected)
    assert counts(run) == counts(plain)


@pytest.mark.parametrize(
    "limits",
    [
        {"epochs": None, "steps": 41},
        {"epochs": 3, "evaluate_every": 5, "valid_loader": True},
        {"epochs": None, "samples": 2000},
    ],
    ids=["steps", "validation every 5", "samples"],
)
def test_what_a_turn_is_for(limits, stretches):
    """No turn that ends something, or validates, is inside of a stretch."""

    def go(capture):
        settings = dict(limits)
        if settings.pop("valid_loader", None):
            settings["valid_loader"] = DataLoader(data("perceptron", 80), BATCH)
        return fitted(capture=capture, **settings)

    plain, expected = go(None)
    run, got = go("exact")
    assert bool(stretches) == ("samples" not in limits)
    assert alike(got, expected)
    assert counts(run) == counts(plain)
    for name in plain.history.series:
        assert run.history.series[name] == plain.history.series[name]


def spoiled():
    """One sample in the middle has no finite value."""
    pixels, labels = (t.clone() for t in data("perceptron").tensors)
    pixels[200] = float("nan")
    return TensorDataset(pixels, labels)


@pytest.mark.parametrize("model", ["perceptron", "batch norm"])
@pytest.mark.parametrize("policy", ["skip", "rewind"])
def test_a_turn_that_is_not_finite(policy, model, stretches, tmp_path):
    """All before it counts; the policy is followed at that turn, as where turns are made one by one."""
    given = spoiled() if model == "perceptron" else None
    if given is None:
        pixels, labels = (t.clone() for t in data(model).tensors)
        pixels[200] = float("inf")
        given = TensorDataset(pixels, labels)
    often = lw.Checkpoint(every_steps=5, every_epochs=None)
    same = {"nonfinite": policy, "given": given, "epochs": 3, "checkpoint": often}
    plain, expected = fitted(model, capture=None, out=tmp_path / "plain", **same)
    run, got = fitted(model, capture="exact", out=tmp_path / "exact", **same)
    assert stretches
    assert run.notes == plain.notes
    assert alike(got, expected)
    assert counts(run)[1] == counts(plain)[1]


def test_a_run_that_stops_there(stretches, tmp_path):
    """The message names the same turn and samples; the folder goes on from the turn before."""
    messages = []
    for capture in (None, "exact"):
        with pytest.raises(NonFiniteError) as caught:
            fitted(capture=capture, given=spoiled(), out=tmp_path / f"{capture}", epochs=3)
        messages.append(str(caught.value).replace(f"/{capture}", "/run"))
    assert messages[0] == messages[1]
    assert stretches


def test_checkpoints_and_going_on(stretches, tmp_path):
    """A checkpoint every seven turns stands after just those, and a run goes on from one."""

    class CutError(Exception):
        pass

    seen = []

    def cut(event):
        seen.append(event.turn)
        if event.turn == 28:
            raise CutError

    every = lw.Checkpoint(every_steps=7, every_epochs=None)
    _, expected = fitted(capture=None)
    with pytest.raises(CutError):
        fitted(
            capture="exact", out=tmp_path / "run", checkpoint=every,
            callbacks=[lambda run: run.on("checkpoint", cut)],
        )  # fmt: skip
    assert seen == [0, 7, 14, 21, 28]
    assert stretches
    _, got = fitted(capture="exact", out=tmp_path / "run", checkpoint=every)
    assert alike(got[:-4], expected[:-4])  # but for the curves, which the folder holds as a whole
    assert alike(got[-1:], expected[-1:])


def test_other_bits_are_found(stretches, monkeypatch):
    """Several turns in one call are compared with the same turns one by one, once."""
    right = Turns.__call__

    def swapped(self, batches, rates):
        return right(self, [batches[1], batches[0], *batches[2:]], rates)

    monkeypatch.setattr(Turns, "__call__", swapped)
    _, expected = fitted(capture=None)
    run, got = fitted(capture="exact")
    assert alike(got, expected)
    assert len(stretches) == 1
    assert "several in one call had other bits" in run.notes[0]


@pytest.mark.parametrize("at_first", [True, False], ids=["an epoch's first turns", "later ones"])
@pytest.mark.parametrize("how", ["error", "signal"])
def test_an_end_within(how, at_first, monkeypatch, tmp_path):
    """What fails there has changed nothing; a signal ends after it; both go on as if nothing had been."""
    makes, right, beginnings = Stretches._make, Turns.__call__, []

    def make(self, loop, shape, batches):
        beginnings.append(loop.source.position == 0)
        return makes(self, loop, shape, batches)

    def ends(self, batches, rates):
        made = right(self, batches, rates)
        if beginnings[-1] == at_first and sum(beginnings) >= at_first and len(beginnings) > 2:
            if how == "error":
                raise RuntimeError("no more memory")
            signal.raise_signal(signal.SIGINT)
        return made

    _, expected = fitted(capture=None, epochs=6)
    with monkeypatch.context() as patched:
        patched.setattr(Stretches, "_make", make)
        patched.setattr(Turns, "__call__", ends)
        with pytest.raises(RuntimeError if how == "error" else KeyboardInterrupt):
            fitted(capture="exact", out=tmp_path / "run", epochs=6)
    assert beginnings[-1] == at_first
    _, got = fitted(capture="exact", out=tmp_path / "run", epochs=6)
    assert alike(got[:-4], expected[:-4])
    assert alike(got[-1:], expected[-1:])


def test_stopped_between_two(stretches):
    """``run.stop`` at a visit to the host ends the loop there."""

    def stop(event):
        if event.turn > 50:
            event.run.stop("enough")

    run, _ = fitted(capture="exact", epochs=100_000, callbacks=[lambda run: run.on("log", stop)])
    assert run.outcome.kind == "stopped"
    assert run.totals["turns"] == run.totals["updates"]
    assert sum(stretches) > 0.5 * run.totals["turns"]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_rate_that_is_a_tensor(kind, stretches):
    """A schedule writes into it at each update, so that each turn is made by itself."""
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = nn.Linear(6, 4)
        made = kind(net.parameters(), lr=torch.tensor(0.1), foreach=False)
        run = lw.fit(
            net, made, nn.CrossEntropyLoss(), DataLoader(data("perceptron"), BATCH, shuffle=True),
            epochs=4, capture=capture, progress=False, scheduler=lw.warmup_cosine(0.3),
        )  # fmt: skip
        rates = torch.tensor(run.history.series["lr"].y)
        results.append([*(p.detach().clone() for p in net.parameters()), rates])
    assert alike(*results)
    assert not stretches
