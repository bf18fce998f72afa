"""CUDA graphs of a whole step: the plain loop's bits, updates that move, and what cannot be recorded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import NonFiniteError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]

SAMPLES, BATCH, EPOCHS = 200, 16, 4  # the last batch of an epoch has 8


def perceptron():
    """Dropout and batch norm: random draws and buffers."""
    return nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4)
    )


def convolutions():
    """Two convolutions with pooling."""
    return nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 2), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


class Attention(nn.Module):
    """A transformer's layer over two tokens of four numbers."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(4, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.out = nn.Linear(32, 4)

    def forward(self, x):
        return self.out(self.layer(self.into(x.view(-1, 2, 4))).flatten(1))


def scaled(p):
    """AdamW that keeps everything on the device, its learning rate too."""
    return torch.optim.AdamW(p, lr=torch.tensor(0.01, device="cuda"), capturable=True)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw capturable": lambda p: torch.optim.AdamW(p, lr=0.01, capturable=True),
    "adamw on the device": scaled,
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}

SETTINGS = {
    "plain": {},
    "clip": {"clip": 0.1},
    "clip values": {"clip": "value:0.01"},
    "schedule": {"scheduler": lw.warmup_cosine(0.3)},
    "ema": {"ema": 0.8},
    "bf16": {"precision": "bf16"},
}


def data(samples=SAMPLES):
    """The same numbers at every call."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(samples, 8, generator=draw)
    return TensorDataset(x, x[:, :4].argmax(1))


def run_it(*, capture, model=perceptron, optimizer="adamw", batches=None, fn=None, **settings):
    """Train with or without capture; returns the step, all that must be equal, and the run."""
    lw.seed(0)
    net = model().cuda()
    run = lw.Run(
        model=net, optimizer=OPTIMIZERS[optimizer](net.parameters()), progress=False, **settings
    )
    train = run.compile_step(
        (lambda batch: fn(run, batch))
        if fn is not None
        else lambda batch: F.cross_entropy(run.model(batch[0]), batch[1])
    )
    batches = DataLoader(data(), BATCH, shuffle=True) if batches is None else batches
    turn = train if capture else train.as_it_stands
    losses = [turn(step) for step in run.loop(batches, epochs=EPOCHS)]
    everything = [
        *(t.detach().cpu() for t in net.state_dict().values()), *(x.cpu() for x in losses),
        torch.rand(2, device="cuda").cpu(),
        *(v.cpu() for s in run.optimizer.state.values() for v in s.values()
          if isinstance(v, torch.Tensor)),
        torch.tensor(run.history.series["loss"].y), torch.tensor(run.history.series["grad_norm"].y),
    ]  # fmt: skip
    return train, everything, run


def same(one, other):
    """Whether two lists of tensors have the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", [perceptron, convolutions, Attention])
def test_same_bits(model, optimizer):
    """Weights, buffers, losses, norms, the optimizer's state and the next draws are the plain loop's."""
    train, ours, run = run_it(capture=True, model=model, optimizer=optimizer)
    _, plain, _ = run_it(capture=False, model=model, optimizer=optimizer)
    assert train.why_not is None, train.why_not
    assert train.replayed >= 16
    assert same(ours, plain)
    assert any(shape._update is not None for shape in train._shapes.values())
    assert not [note for note in run.notes if "captured" in note or "launched" in note]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "adamw fused"])
def test_same_bits_with_settings(optimizer, setting):
    """Clipping, schedules, averages and bf16 are part of the graph, or done beside it."""
    settings = SETTINGS[setting]
    train, ours, run = run_it(capture=True, optimizer=optimizer, **settings)
    _, plain, _ = run_it(capture=False, optimizer=optimizer, **settings)
    assert train.why_not is None, train.why_not
    assert train.replayed >= 16
    assert same(ours, plain)
    moves = setting == "schedule" and optimizer == "adamw fused"  # its kernel is given the rate
    assert moves or any(shape._update is not None for shape in train._shapes.values())
    assert not [note for note in run.notes if "launched" in note]


def test_a_value_that_is_read():
    """A branch on a value cannot be recorded: the line is named, and the training is the plain one."""

    def fn(run, batch):
        loss = F.cross_entropy(run.model(batch[0]), batch[1])
        return 2 * loss if loss.item() > 0.5 else loss

    train, ours, _ = run_it(capture=True, fn=fn)
    _, plain, _ = run_it(capture=False, fn=fn)
    assert "looks at a value" in train.why_not
    assert "test_cuda.py:" in train.why_not
    assert train.replayed == 0
    assert same(ours, plain)


def test_what_cuda_does_not_record():
    """A tensor that comes from the host in the middle ends the recording, and nothing is the worse for it."""

    def fn(run, batch):
        out = run.model(batch[0])
        return F.cross_entropy(out * torch.tensor([1.0, 2.0, 1.0, 1.0]).to(out.device), batch[1])

    train, ours, _ = run_it(capture=True, fn=fn)
    _, plain, _ = run_it(capture=False, fn=fn)
    assert "CUDA does not record it" in train.why_not
    assert same(ours, plain)  # dropout still draws: the generator was let go


def test_python_that_changes_its_mind():
    """What Python decides otherwise after the recording is found by running both ways."""
    turns = []

    def fn(run, batch):
        turns.append(1)
        return F.cross_entropy(run.model(batch[0]), batch[1]) * (1 if len(turns) < 5 else 2)

    train, _, _ = run_it(capture=True, fn=fn)
    assert "not the step as it stands" in train.why_not


def batches_with_nan(at=30, turns=40):
    """Batches of one shape; one of them is not finite."""
    x, y = data(BATCH * turns).tensors
    x = x.clone()
    x[at * BATCH] = float("nan")
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_nan_in_a_replayed_turn(optimizer):
    """Without a fused optimizer a loss that is not finite stops the run before its update."""
    with pytest.raises(NonFiniteError) as caught:
        run_it(capture=True, optimizer=optimizer, batches=batches_with_nan())
    assert "31" in str(caught.value)
    assert "has not stepped" in str(caught.value)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "adamw fused", "sgd fused"])
def test_nan_that_is_skipped(optimizer):
    """With nonfinite="skip" the captured run is the run without capture; fused ones skip on the device."""
    given = {
        "optimizer": optimizer, "batches": batches_with_nan(), "nonfinite": "skip",
        "model": lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)),
    }  # fmt: skip
    train, ours, run = run_it(capture=True, **given)
    _, plain, other = run_it(capture=False, **given)
    assert train.replayed > 20
    assert run.nonfinite.skipped == other.nonfinite.skipped == EPOCHS
    assert all(map(torch.equal, ours[:4], plain[:4]))


def test_no_waiting_with_a_fused_optimizer():
    """Turns that are replayed do not wait for the device."""
    lw.seed(0)
    net = perceptron().cuda()
    run = lw.Run(
        model=net, optimizer=OPTIMIZERS["adamw fused"](net.parameters()), progress=False
    )  # fmt: skip
    train = run.compile_step(lambda batch: F.cross_entropy(run.model(batch[0]), batch[1]))
    x, y = (part.cuda() for part in data(BATCH).tensors)
    turns = 0
    for step in run.loop([(x, y)] * 100, epochs=1):
        replayed = train.replayed
        proven = step.index in range(12) or not train._shapes
        shape = next(iter(train._shapes.values()), None)
        free = shape is not None and shape._update is not None and not proven
        free = free and shape._proofs._left == 0 and shape._proofs.replays < shape._proofs._again
        torch.cuda.set_sync_debug_mode("error" if free else "default")
        try:
            train(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        turns += free and train.replayed > replayed
    assert turns > 40


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "sgd fused", "adamw fused", "adamw"])
def test_through_fit(optimizer, at_once):
    """``lw.fit(capture="exact")``: several turns in a row, validation between, the plain loop's bits."""
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = perceptron().cuda()
        run = lw.fit(
            net, OPTIMIZERS[optimizer](net.parameters()), nn.CrossEntropyLoss(),
            DataLoader(data(32 * 40 + 5), 32, shuffle=True), DataLoader(data(64), 32),
            epochs=EPOCHS, metrics=["accuracy"], capture=capture, progress=False,
        )  # fmt: skip
        assert not [note for note in run.notes if "captured" in note or "one at a time" in note]
        curves = [torch.tensor(run.history.series[name].y) for name in ("loss", "grad_norm")]
        results.append([*(t.detach().cpu() for t in net.state_dict().values()), *curves])
    assert same(*results)
    assert sum(at_once) > 60


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "adamw fused"])
def test_nan_among_several(optimizer, at_once):
    """What came after it in the same call is put back, and made again as the plain loop makes it."""
    x, y = (part.clone() for part in data(32 * 40).tensors)
    x[200] = float("inf")
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).cuda()
        run = lw.fit(
            net, OPTIMIZERS[optimizer](net.parameters()), nn.CrossEntropyLoss(),
            DataLoader(TensorDataset(x, y), 32, shuffle=True),
            epochs=EPOCHS, capture=capture, nonfinite="skip", progress=False,
        )  # fmt: skip
        assert run.nonfinite.skipped == EPOCHS
        results.append([t.detach().cpu() for t in net.state_dict().values()])
    assert same(*results)
    assert at_once
