"""A compiled step is used where it pays and is right but for rounding; otherwise the exact one goes on."""

from __future__ import annotations

import shutil

import pytest
import torch
from small import loader, make
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.capture import fast
from loopwright.train.capture.record import Refused

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("c++") is None, reason="no C++ compiler"
)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}


class Attention(nn.Module):
    """Embedding, a transformer's layer, tied weights."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, 16, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.layer(self.embed(x)))


def points():
    """Three classes of points."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(40, 6, generator=draw)
    return TensorDataset(x, torch.randint(3, (40,), generator=draw))


def mlp(bias=False):
    """A perceptron with dropout and batch norm; a bias before the norm has a gradient of rounding."""
    return nn.Sequential(
        nn.Linear(6, 16, bias=bias),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(16, 3),
    )


def attention_loss(outputs, target):
    """Cross-entropy of sequences."""
    return F.cross_entropy(outputs.flatten(0, 1), target.flatten())


def run_it(
    mode, *, build=mlp, optimizer="momentum", data=None, criterion=F.cross_entropy, **settings
):
    """Train; returns the step, the run and the weights."""
    lw.seed(0)
    net = build()
    run = make(model=net, optimizer=OPTIMIZERS[optimizer](net.parameters()), **settings)
    train = run.compile_step(lambda b: criterion(run.model(b[0]), b[1]), mode=mode or "exact")
    data = points() if data is None else data
    for step in run.loop(DataLoader(data, batch_size=8, shuffle=True), epochs=12):
        (train if mode else train.as_it_stands)(step)
    return train, run, [t.detach().clone() for t in net.state_dict().values()]


def close(one, other):
    """Whether two lists of tensors differ by rounding alone."""
    return all(
        torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def soon(monkeypatch):
    """Decide after a few turns, and that it pays; the compiled step stays, whatever its time."""
    monkeypatch.setattr(fast, "WATCHED", 3)
    monkeypatch.setattr(fast, "TRIED", 3)
    monkeypatch.setattr(fast, "SECONDS", 0)
    monkeypatch.setattr(fast, "SECONDS_PER_OPERATION", 0)
    clock = iter(range(10**6))
    kept = fast.Fast.took

    def took(self, seconds):
        kept(self, 1.0 if self.chosen else 2.0 + next(clock) * 1e-9)

    monkeypatch.setattr(fast.Fast, "took", took)


@needs_compiler
def test_close_and_used(soon):
    """It goes on by the compiled step, with its draws, and arrives at the same weights but for rounding."""
    _, _, expected = run_it(None, clip=0.5)
    train, run, got = run_it("fast", clip=0.5)
    assert train.why_not is None
    assert "the compiled step takes 1000.00 ms instead of 2000.00 ms: used" in "\n".join(run.notes)
    assert [shape._fast.chosen for shape in train._shapes.values()] == [True]
    assert train.replayed > 25
    assert close(got, expected)


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(soon, optimizer):
    """The same for every optimizer and a schedule; one that cannot be compiled goes on exactly."""
    settings = {"optimizer": optimizer, "scheduler": lw.warmup_cosine(0.3)}
    _, _, expected = run_it(None, **settings)
    train, run, got = run_it("fast", **settings)
    assert train.why_not is None
    notes = "\n".join(run.notes)
    assert ": used" in notes or "not compiled: " in notes
    assert close(got, expected)


@needs_compiler
@pytest.mark.long
def test_gradients_of_nothing_but_rounding(soon):
    """What Adam makes of such a gradient is other steps; that is no reason not to use it."""
    train, run, _ = run_it("fast", build=lambda: mlp(bias=True), optimizer="adamw")
    assert train.why_not is None
    assert ": used" in "\n".join(run.notes)


@needs_compiler
@pytest.mark.long
def test_attention(soon):
    """Embeddings, attention, layer norm, tied weights."""
    settings = {
        "build": Attention, "optimizer": "sgd", "criterion": attention_loss,
        "data": tokens(),
    }  # fmt: skip
    _, _, expected = run_it(None, **settings)
    train, run, got = run_it("fast", **settings)
    assert ": used" in "\n".join(run.notes)
    assert train.why_not is None
    assert close(got, expected)


def tokens():
    """Sequences and the same ones as targets."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(16, (40, 5), generator=draw)
    return TensorDataset(ids, ids)


@needs_compiler
@pytest.mark.long
def test_what_is_not_finite_changes_nothing(soon):
    """A compiled step leaves weights and the optimizer's state where the gradient is not finite."""
    lw.seed(0)
    net = nn.Linear(3, 1)
    run = make(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
    train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]), mode="fast")
    for step in run.loop(loader(), epochs=4):
        train(step)
    (shape,) = train._shapes.values()
    assert shape._fast.chosen
    state = [t for s in run.optimizer.state.values() for t in s.values()]
    before = [t.detach().clone() for t in (*net.parameters(), *state)]
    bad = [torch.full((4, 3), float("nan")), torch.zeros(4, 1)]
    loss, *_ = shape._fast.graph(bad, [0.05, -0.05, 1.0, 0.0, 0.0])
    assert loss.isnan()
    assert all(map(torch.equal, before, (*net.parameters(), *state)))
    shape._fast.graph([torch.ones(4, 3), torch.zeros(4, 1)], [0.05, -0.05, 1.0, 0.0, 0.0])
    assert not any(map(torch.equal, before, (*net.parameters(), *state)))


def test_too_short_to_pay(monkeypatch):
    """A run that is over sooner than compiling would pay is not compiled, and says so; the bits are exact."""
    monkeypatch.setattr(fast, "Compiled", None)
    _, _, expected = run_it(None)
    monkeypatch.setattr(fast, "WATCHED", 3)
    _, run, got = run_it("fast")
    (note,) = [note for note in run.notes if "compiled" in note]
    assert "turns of" in note
    assert "too few to pay for" in note
    assert all(map(torch.equal, got, expected))


class Wrong:
    """A compiled step that forgets the learning rate's factor."""

    def __init__(self, recorded):
        pass

    def __call__(self, inputs, numbers):
        with torch.no_grad():
            Wrong.weight.add_(0.5)
        return torch.tensor(1.0), torch.tensor(1.0)


def test_one_that_computes_something_else(soon, monkeypatch):
    """A compiled step that moves the weights otherwise is found before it is used."""
    _, _, expected = run_it(None)
    monkeypatch.setattr(fast, "Compiled", Wrong)

    def build():
        net = mlp()
        Wrong.weight = net[0].weight
        return net

    train, run, got = run_it("fast", build=build)
    assert "the compiled step is not used: a tensor of shape (16, 6) moved by" in "\n".join(
        run.notes
    )
    assert train.why_not is None
    assert all(map(torch.equal, got, expected))


def test_one_that_cannot_be_compiled(soon, monkeypatch):
    """What the compiler says is noted, and the exact graphs go on."""

    def refuse(*_):
        raise Refused("CppCompileError: no compiler")

    _, _, expected = run_it(None)
    monkeypatch.setattr(fast, "Compiled", refuse)
    train, run, got = run_it("fast")
    assert "not compiled: CppCompileError: no compiler" in "\n".join(run.notes)
    assert train.why_not is None
    assert all(map(torch.equal, got, expected))


def test_an_unknown_mode():
    """Another word is an error."""
    with pytest.raises(lw.UsageError, match="mode is 'exact' or 'fast', got 'quick'"):
        make().compile_step(lambda batch: batch, mode="quick")
