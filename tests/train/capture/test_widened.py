"""Operations in bf16 that are faster in fp32 are computed so in a fast step, with less rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.capture import fast, widened
from loopwright.train.capture.record import Recording
from loopwright.train.capture.simplify import draws

LENGTH, WIDTH = 12, 16


class Causal(nn.Module):
    """A character model with a mask of infinities, whose keys' bias has no gradient but rounding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(16, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, 16)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, x):
        return self.out(self.layers(self.embed(x), mask=self.mask, is_causal=True)).flatten(0, 1)


def train(mode, *, precision="bf16", optimizer=torch.optim.AdamW, data=None, epochs=6):
    """Train; returns the step, the run, losses and weights."""
    lw.seed(0)
    net = Causal()
    run = lw.Run(
        model=net,
        optimizer=optimizer(net.parameters(), lr=0.01),
        precision=precision,
        progress=False,
    )
    step = run.compile_step(lambda b: F.cross_entropy(run.model(b[0]), b[1].flatten()), mode=mode)
    ids = torch.randint(16, (80, LENGTH), generator=torch.Generator().manual_seed(3))
    for turn in run.loop(DataLoader(TensorDataset(ids, ids), 8, shuffle=True), epochs=epochs):
        step(turn)
    weights = [t.detach().clone() for t in net.state_dict().values()]
    return step, run, torch.tensor(run.history.series["loss"].y), weights


@pytest.fixture
def fp32_is_faster(monkeypatch):
    """Whatever can be computed in fp32 is, and found faster so; nothing is compiled."""
    monkeypatch.setattr(widened, "_seconds", lambda ways: [1.0, 0.25][: len(ways)])
    monkeypatch.setattr(widened, "SHARE", 0.0)
    monkeypatch.setattr(fast, "WIDENED_TRIED", 2)
    monkeypatch.setattr(fast, "WATCHED", 10**6)
    kept = fast.Fast.took
    monkeypatch.setattr(fast.Fast, "took", lambda self, _: kept(self, 1.0 if self.chosen else 2.0))


def recorded(net, inputs, **autocast):
    """The operations of a forward and a backward pass in bf16."""
    with Recording() as recording:
        with torch.autocast("cpu", torch.bfloat16, **autocast):
            loss = net(inputs).float().square().mean()
        torch.autograd.backward(loss)
    return recording.operations


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_used_and_near(fp32_is_faster, optimizer):
    """It goes on with the operations in fp32: the losses are those of bf16 but for its rounding."""
    _, _, expected, _ = train("exact", optimizer=optimizer)
    step, run, losses, _ = train("fast", optimizer=optimizer)
    assert step.why_not is None
    (note,) = run.notes
    assert "_for_cpu_backward (4.0 times as fast as in bf16)" in note
    assert "in fp32 takes 1000.00 ms instead of 2000.00 ms: used" in note
    assert [shape._fast.chosen for shape in step._shapes.values()] == [True]
    assert not torch.equal(losses, expected)
    assert torch.allclose(losses, expected, rtol=0.05, atol=0.01)


def test_what_is_made_of_all_of_them(fp32_is_faster):
    """Each result has the recorded dtype, shape and strides; gradients differ by bf16's rounding."""
    torch.manual_seed(0)
    net, inputs = Causal(), torch.randint(16, (8, LENGTH))
    grads = {}
    for name, enabled in (("fp32", False), ("bf16", True)):
        net.zero_grad()
        operations = recorded(net, inputs, enabled=enabled)
        grads[name] = [p.grad for p in net.parameters()]
    made, found = widened.widened(operations)
    assert len(found) > 5
    values = {}  # run what was made, as a graph does
    for operation in made:
        given = [_now(value, values) for value in operation.arguments]
        out = widened._run(widened.Operation(operation.function, given, None), given)
        pairs = zip(widened.tensors(operation.outputs), widened.tensors(out), strict=True)
        values |= {id(old): new for old, new in pairs}
        for old, new in zip(widened.tensors(operation.outputs), widened.tensors(out), strict=True):
            assert (old.shape, old.dtype, old.stride()) == (new.shape, new.dtype, new.stride())

    def apart(some):
        return sum((a - b).norm() for a, b in zip(some, grads["fp32"], strict=True))

    wide = [values.get(id(grad), grad) for grad in grads["bf16"]]
    assert 0 < apart(wide) < 1.5 * apart(grads["bf16"])


def _now(value, values):
    if isinstance(value, torch.Tensor):
        return values.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return [_now(part, values) for part in value]
    return value


def test_not_faster(monkeypatch):
    """Nothing is replaced where fp32 is not clearly faster, or saves nothing that counts."""
    operations = recorded(Causal(), torch.randint(16, (8, LENGTH)))
    for seconds in ([1.0, 0.9], [1.0, 2.0]):
        monkeypatch.setattr(widened, "_seconds", lambda ways, s=seconds: s[: len(ways)])
        made, found = widened.widened(operations)
        assert made == operations
        assert not found


def test_nothing_in_bf16():
    """In fp32 there is nothing to try, and nothing is run again."""
    operations = recorded(Causal(), torch.randint(16, (8, LENGTH)), enabled=False)
    assert widened.widened(operations) == (operations, {})


def test_one_that_computes_something_else(fp32_is_faster, monkeypatch):
    """It is found before it is used, and the exact graphs go on."""
    right = widened.Widened.__call__

    def wrong(self, inputs, numbers):
        made = right(self, inputs, numbers)
        with torch.no_grad():
            next(t for t in self._update.constants if t.ndim == 2).add_(0.5)
        return made

    monkeypatch.setattr(widened.Widened, "__call__", wrong)
    _, _, expected, weights = train("exact")
    step, run, losses, got = train("fast")
    assert step.why_not is None
    assert "is not used: a tensor of shape" in run.notes[0]
    assert torch.equal(losses, expected)
    assert all(map(torch.equal, got, weights))


def test_what_is_not_finite_changes_nothing(fp32_is_faster):
    """A turn whose loss is not finite updates nothing."""
    step, run, _, _ = train("fast", epochs=3)
    (shape,) = step._shapes.values()
    batch = [torch.zeros(8, LENGTH, dtype=torch.long)] * 2
    with torch.no_grad():
        run.model.out.bias[0] = float("nan")
    state = [t for s in run.optimizer.state.values() for t in s.values()]
    before = [t.detach().clone() for t in (*run.model.parameters(), *state)]
    loss, *_ = shape._fast.graph(batch, [0.01] * 20)
    assert loss.isnan()
    after = (*run.model.parameters(), *state)
    assert all(
        torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(before, after, strict=True)
    )


def test_who_draws():
    """Attention without dropout draws nothing, though torch marks it as if it did."""
    query = torch.randn(1, 2, 4, 8)
    with Recording() as recording:
        F.scaled_dot_product_attention(query, query, query)
        torch.rand(3)
    attention, random = (
        recording.operations[0],
        next(o for o in recording.operations if "rand" in str(o.function)),
    )
    assert "attention" in attention.function._schema.name
    assert torch.Tag.nondeterministic_seeded in attention.function.tags
    assert not draws(attention)
    place = [a.name for a in attention.function._schema.arguments].index("dropout_p")
    attention.arguments[place] = 0.5
    assert draws(attention)
    assert draws(random)
