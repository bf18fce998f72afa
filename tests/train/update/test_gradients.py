"""Arithmetic on gradients: scale, norm, clip; dense and sparse."""

from __future__ import annotations

import math

import pytest
import torch
from small import make
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from loopwright.errors import UsageError
from loopwright.train.update import gradients
from loopwright.train.update.gradients import Clip, parse_clip


def dense(dtype=torch.float32, seed=0):
    """Return gradients of several shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 4), (4,), (), (2, 2, 2))
    ]


def sparse():
    """Return an embedding's gradient in which rows stand several times."""
    embedding = nn.Embedding(6, 2, sparse=True)
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0, 3, 3, 5, 3])
    (embedding(rows) * torch.randn(5, 2, generator=generator)).sum().backward()
    return embedding.weight.grad


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None), (1, Clip(norm=1.0)), (0.5, Clip(norm=0.5)), ("2", Clip(norm=2.0)),
        ("norm:1.5", Clip(norm=1.5)), ("value:0.5", Clip(value=0.5)), (Clip(norm=3.0), Clip(norm=3.0)),
    ],
)  # fmt: skip
def test_parse_clip(given, expected):
    """A number is a norm; a word before a colon says which kind."""
    assert parse_clip(given) == expected


@pytest.mark.parametrize(
    "given", [0, -1.0, math.inf, math.nan, "max:1", "value:", "big", True, "value:-1", []]
)
def test_parse_clip_refuses(given):
    """What is not a finite number above 0 is an error that shows it."""
    with pytest.raises(UsageError, match="clip must be a number above 0") as caught:
        parse_clip(given)
    assert caught.value.slug == "clip-out-of-range"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norm_has_the_bits_of_torchs(dtype):
    """The global norm equals ``get_total_norm``'s, in each dtype."""
    grads = dense(dtype)
    assert torch.equal(gradients.norm(grads), torch.nn.utils.get_total_norm(grads))


def test_norm_of_mixed_dtypes():
    """Gradients of several dtypes have one norm."""
    grads = [*dense(torch.float32), *dense(torch.float64, seed=1)]
    assert torch.equal(gradients.norm(grads), torch.nn.utils.get_total_norm(grads))


def test_norm_of_sparse_gradients():
    """A sparse gradient counts as the dense one that it stands for."""
    grad = sparse()
    assert grad.is_sparse
    assert not grad.is_coalesced()
    expected = gradients.norm([grad.to_dense(), *dense()])
    torch.testing.assert_close(gradients.norm([grad, *dense()]), expected)
    exact = math.sqrt(sum(float(g.to_dense().double().square().sum()) for g in [grad, *dense()]))
    assert gradients.exact_norm([grad, *dense()]) == pytest.approx(exact, rel=1e-12)


def test_exact_norm_does_not_overflow():
    """Finite gradients whose squares overflow float32 have a finite norm."""
    grads = [torch.full((4,), 1e30)]
    assert not torch.isfinite(gradients.norm(grads))
    assert gradients.exact_norm(grads) == pytest.approx(2e30, rel=1e-6)


@pytest.mark.parametrize(
    "factor", [0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_scale_in_place_keeps_the_dtype(factor, dtype):
    """Every gradient is multiplied in place and keeps its dtype, sparse ones too."""
    grads = [*dense(dtype), sparse().to(dtype)]
    expected = [g.to_dense() * 0.25 if g.is_sparse else g * 0.25 for g in grads]
    same = list(grads)
    gradients.scale(grads, factor)
    for grad, object_, value in zip(grads, same, expected, strict=True):
        assert grad is object_
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.to_dense() if grad.is_sparse else grad, value)


@pytest.mark.parametrize("largest", [0.5, 1e3])
def test_clip_norm_has_the_bits_of_torchs(largest):
    """Clipping by norm equals ``clip_grad_norm_``, above the limit and below it."""
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in dense()]
    for parameter, grad in zip(parameters, dense(), strict=True):
        parameter.grad = grad
    torch.nn.utils.clip_grad_norm_(parameters, largest)
    grads = dense()
    gradients.clip_norm(grads, gradients.norm(grads), largest)
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, parameters, strict=True))


def test_clip_norm_of_sparse_gradients():
    """With sparse gradients among them the norm is at most the limit afterwards."""
    grads = [sparse(), *dense()]
    gradients.clip_norm(grads, gradients.norm(grads), 0.5)
    assert gradients.norm(grads).item() == pytest.approx(0.5, rel=1e-4)


def test_clip_value():
    """Each element is clamped; a sparse row that stands several times is one element each."""
    grad = sparse()
    whole = grad.to_dense()
    grads = [grad, *dense()]
    gradients.clip_value(grads, 0.3)
    assert torch.equal(grad.to_dense(), whole.clamp(-0.3, 0.3))
    for after, before in zip(grads[1:], dense(), strict=True):
        assert torch.equal(after, before.clamp(-0.3, 0.3))


def test_gradients_that_are_there():
    """Parameters without a gradient are passed over."""
    with_one, without = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    with_one.grad = torch.ones(2)
    assert gradients.of([without, with_one]) == [with_one.grad]


# -- the order in which a plain loop adds up ---------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def by_kind(model):
    """Decay for weights alone, as most programs do it."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": biases, "weight_decay": 0.0}, {"params": weights}], lr=0.01, weight_decay=0.1
    )


def backwards(model):
    return torch.optim.SGD([*model.parameters()][::-1], lr=0.1)


def data():
    draw = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(320, 8, generator=draw), torch.randint(4, (320,), generator=draw)
    )


def plain(optimizer_of, later):
    """Weights and norms of a loop that is written by hand."""
    model, norms = network(), []
    optimizer = optimizer_of(model)
    for turn, (x, y) in enumerate(DataLoader(data(), 16)):
        if turn == later:
            model.late = nn.Parameter(torch.ones(4))
            optimizer.add_param_group({"params": [model.late]})
        out = model(x) if turn < later else model(x) * model.late
        optimizer.zero_grad()
        F.cross_entropy(out, y).backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()], norms


@pytest.mark.parametrize("optimizer_of", [by_kind, backwards])
@pytest.mark.parametrize("later", [7, 99])
def test_groups_in_another_order(optimizer_of, later):
    """The order is the model's, not that of the optimizer's groups; also where a group comes later."""
    expected, norms = plain(optimizer_of, later)
    model = network()
    run = make(model=model, optimizer=optimizer_of(model), clip=0.5)
    for step in run.loop(DataLoader(data(), 16), epochs=1):
        if step.index == later:
            model.late = nn.Parameter(torch.ones(4))
            run.optimizer.add_param_group({"params": [model.late]})
        x, y = step.batch
        step.backward(F.cross_entropy(model(x) if step.index < later else model(x) * model.late, y))
        step.update()
    assert all(map(torch.equal, model.parameters(), expected))
    assert run.history.series["grad_norm"].y == norms


def test_a_captured_step():
    """It measures in the same order."""
    expected, _ = plain(by_kind, 99)
    model = network()
    run = make(model=model, optimizer=by_kind(model), clip=0.5)
    train = run.compile_step(lambda b: F.cross_entropy(model(b[0]), b[1]))
    for step in run.loop(DataLoader(data(), 16), epochs=1):
        train(step)
    assert train.replayed > 10
    assert all(map(torch.equal, model.parameters(), expected))
