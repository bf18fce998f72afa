"""Updates by the optimizers' kernels alone: the same bits as ``optimizer.step()``, or not done at all."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from loopwright.train.update import direct
from loopwright.train.update.gradients import by_group

DONE = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.01}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (Adam, {"lr": 0.01}),
    (Adam, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    (Adam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (AdamW, {"lr": 0.01}),
    (AdamW, {"lr": 0.01, "weight_decay": 0}),
]
LEFT = [
    (SGD, {"lr": 0.1, "maximize": True}),
    (SGD, {"lr": 0.1, "foreach": True}),
    (SGD, {"lr": torch.tensor(0.1)}),
    (Adam, {"lr": 0.1, "amsgrad": True}),
    (Adam, {"lr": 0.1, "fused": True}),
    (Adam, {"lr": torch.tensor(0.1)}),
    (torch.optim.RMSprop, {"lr": 0.1}),
    (torch.optim.NAdam, {"lr": 0.1}),
]


def ids(cases):
    return [
        f"{kind.__name__}-{'-'.join(f'{k}={v}' for k, v in options.items())}"
        for kind, options in cases
    ]


def twins(kind, options, dtype=torch.float32):
    """Two models with the same weights, one of them large, and an optimizer with two groups for each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 300), nn.BatchNorm1d(300), nn.Linear(300, 90)).to(dtype)
    both = (model, copy.deepcopy(model))
    return both, [
        kind([{"params": m[0].parameters()}, {"params": [*m[1:].parameters()], "lr": 0.03}], **options)
        for m in both
    ]  # fmt: skip


def turn(models, optimizers, number, *, without=()):
    """One update of each; says what `direct.step` answered."""
    answer = None
    x = torch.sin(torch.arange(35.0) * (number + 1)).reshape(5, 7)
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        model(x.to(model[0].weight.dtype)).square().mean().backward()
        for name in without:
            model.get_parameter(name).grad = None
        if optimizer is optimizers[1]:
            optimizer.step()
        else:
            answer = direct.step(optimizer, by_group(optimizer), model[0].weight.dtype)
            if not answer:
                optimizer.step()
    return answer


def equal(models, optimizers):
    """Whether weights and the optimizers' whole states are the same to the bit."""
    mine, other = (optimizer.state_dict() for optimizer in optimizers)
    assert mine["param_groups"] == other["param_groups"]
    assert mine["state"].keys() == other["state"].keys()
    for index, state in mine["state"].items():
        assert state.keys() == other["state"][index].keys()
        for name, one in state.items():
            if isinstance(one, torch.Tensor):
                assert torch.equal(one, other["state"][index][name]), (index, name)
            else:
                assert one == other["state"][index][name]
    return all(map(torch.equal, *(model.state_dict().values() for model in models)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("kind", "options"), DONE, ids=ids(DONE))
def test_the_same_bits(kind, options, dtype):
    """After the first update, which makes the state; with a rate that changes, and saved and loaded."""
    models, optimizers = twins(kind, options, dtype)
    answers = []
    for number in range(6):
        if number == 3:
            for optimizer in optimizers:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
                optimizer.param_groups[0]["lr"] *= 0.3
        answers.append(turn(models, optimizers, number))
        assert equal(models, optimizers)
    born = "momentum" not in options and kind is SGD
    assert answers == [born, *[True] * 5]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("kind", "options"), LEFT, ids=ids(LEFT))
def test_left_to_torch(kind, options):
    """What torch computes in another way is not touched: the answer is no, and nothing has moved."""
    models, optimizers = twins(kind, options)
    for number in range(3):
        assert turn(models, optimizers, number) is False
        assert equal(models, optimizers)


@pytest.mark.parametrize(
    ("kind", "options"), [(SGD, {"lr": 0.1, "momentum": 0.9}), (Adam, {"lr": 0.01})], ids=str
)
def test_parameters_that_get_no_gradient_now_and_then(kind, options):
    """Their count of updates differs from the others': those turns are torch's."""
    models, optimizers = twins(kind, options)
    for number, without in enumerate(
        [(), (), ("2.weight",), ("2.weight",), (), ("0.weight", "0.bias"), ()]
    ):
        turn(models, optimizers, number, without=without)
        assert equal(models, optimizers)


def test_a_kind_of_ones_own_is_not_torchs():
    """A subclass may do something else in its step."""

    class Half(SGD):
        pass

    _, optimizers = twins(Half, {"lr": 0.1})
    assert not direct.step(optimizers[0], by_group(optimizers[0]), torch.float32)


def test_a_torch_that_computes_otherwise(monkeypatch):
    """Every switch of an arithmetic is tried beside torch's own; one that differs is not used."""
    fine = itertools.product((SGD, Adam, AdamW), (False, True))
    for kind, decay in fine:
        assert direct._agrees(kind, torch.float32, (False, False, False, decay))
    direct._agrees.cache_clear()
    direct._plan_of.cache_clear()
    real = torch._foreach_add_
    monkeypatch.setattr(
        torch, "_foreach_add_", lambda *a, alpha=1, **k: real(*a, alpha=alpha * (1 + 1e-7), **k)
    )
    try:
        assert not direct._agrees(SGD, torch.float32, (False, False, False, False))
        _, optimizers = twins(SGD, {"lr": 0.1})
        assert not direct.step(optimizers[0], by_group(optimizers[0]), torch.float32)
    finally:
        direct._agrees.cache_clear()
        direct._plan_of.cache_clear()


@pytest.mark.parametrize(("kind", "options"), [(SGD, {"weight_decay": 0.1}), (AdamW, {})])
def test_two_parameters_in_one_place(kind, options):
    """Weights that are tied by their memory are updated one after the other."""
    results = []
    for ours in (True, False):
        torch.manual_seed(0)
        one, other = nn.Parameter(torch.randn(4)), nn.Parameter(torch.zeros(4))
        other.data = one.data
        optimizer = kind([one, other], lr=0.1, **options)
        for turn in range(4):
            one.grad, other.grad = torch.full((4,), 0.3 + turn), torch.full((4,), -0.7)
            done = ours and direct.step(optimizer, by_group(optimizer), torch.float32)
            assert not done
            optimizer.step()
        results.append(one.detach().clone())
    assert torch.equal(*results)
