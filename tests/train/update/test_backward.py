"""The backward pass that calls torch's engine: the same gradients, and torch's function where one listens."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from loopwright.train.update import backward as module
from loopwright.train.update.backward import backward_of


def backward(loss, **options):
    backward_of(loss, **options)()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def gradients(model, loss_of, run):
    model.zero_grad()
    run(loss_of(model(torch.linspace(-1, 1, 20).reshape(4, 5))))
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize(
    "loss_of",
    [torch.mean, lambda out: out.square().sum().reshape(1, 1), torch.prod],
    ids=["mean", "one of two dimensions", "product"],
)
def test_the_same_gradients(model, loss_of):
    """Also of a loss that is one number with dimensions."""
    plain = gradients(model, loss_of, torch.Tensor.backward)
    ours = gradients(model, loss_of, lambda loss: backward(loss, retain_graph=False, inputs=None))
    assert module._KNOWN
    assert all(map(torch.equal, plain, ours))


def test_arguments(model):
    """The graph is kept where that is asked for; ``inputs`` alone receive gradients."""
    loss = model(torch.ones(2, 5)).mean()
    backward(loss, retain_graph=True, inputs=None)
    first = model[0].weight.grad.clone()
    backward(loss, retain_graph=False, inputs=[model[2].bias])
    assert torch.equal(model[0].weight.grad, first)
    assert model[2].bias.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        backward(loss, retain_graph=False, inputs=None)


def test_hooks_of_the_loss_change_nothing_that_is_kept(model):
    """A hook may write to the one that the pass begins with."""
    for _ in range(2):
        loss = model(torch.ones(2, 5)).mean()
        loss.register_hook(lambda grad: grad.mul_(3))
        model.zero_grad()
        backward(loss, retain_graph=False, inputs=None)
        assert model[2].bias.grad.item() == 3.0


def test_whoever_listens_hears(model, monkeypatch):
    """A mode with a function of its own, and code in the place of torch's, are asked as ever."""
    heard = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            heard.append(func)
            return func(*args, **(kwargs or {}))

    loss = model(torch.ones(2, 5)).mean()
    both = []
    for run in (torch.autograd.backward, backward):
        with Mode():
            run(loss, retain_graph=True, inputs=None)
        both.append([*heard])
        heard.clear()
    assert both[0] == both[1] != []
    calls = []
    real = torch.autograd.backward
    monkeypatch.setattr(
        torch.autograd, "backward", lambda *a, **k: (calls.append(1), real(*a, **k))
    )
    backward(loss, retain_graph=False, inputs=None)
    assert calls == [1]


def test_a_listener_that_was_there_first(monkeypatch):
    """``loopwright check`` begins before the program imports this: torch's function is another's then."""
    heard = []
    monkeypatch.setattr(torch.autograd, "heard", heard, raising=False)
    listening = compile(
        "def listens(*tensors, **_):\n    heard.append(tensors)\n", "a tool", "exec"
    )
    others = next(one for one in listening.co_consts if hasattr(one, "co_code"))
    loss = torch.ones(2, requires_grad=True).sum()
    with monkeypatch.context() as patched:
        patched.setattr(torch.autograd.backward, "__code__", others)
        importlib.reload(module)
        module.backward_of(loss, retain_graph=False, inputs=None)()
    importlib.reload(module)
    assert heard == [(loss,)]
    module.backward_of(loss, retain_graph=False, inputs=None)()
    assert len(heard) == 1
