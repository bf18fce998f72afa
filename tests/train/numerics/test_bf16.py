"""bf16: the body is one autocast region, whose cached weights are never older than the weights."""

from __future__ import annotations

import contextlib

import pytest
import torch
from material import Net, equal, prepared, quiet_run, run_loop, tensors
from torch import nn

from loopwright.errors import UsageError
from loopwright.train.update.precision import Precision

CRITERION = nn.CrossEntropyLoss()


def sgd(parameters):
    """Return SGD with a learning rate that moves the weights visibly in one update."""
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9)


def test_bf16_is_the_autocast_loop():
    """Three epochs in bf16 give the bits of the hand-written autocast loop; fp32 gives others."""
    hand, optimizer, loader = prepared(sgd)
    for _ in range(3):
        for data, labels in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = CRITERION(hand(data), labels)
            loss.backward()
            optimizer.step()
    ours, optimizer, loader = prepared(sgd)
    run_loop(ours, optimizer, loader, 3, CRITERION, precision="bf16")
    assert equal(ours, hand)
    other, optimizer, loader = prepared(sgd)
    run_loop(other, optimizer, loader, 3, CRITERION)
    assert not equal(other, hand)


def outputs_after_update(*, ema=None):
    """Return what evaluation, and a forward in train mode, gave in the body right after an update.

    The same from a fresh autocast region follows them.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    inputs, labels = tensors()
    run = quiet_run(model=model, optimizer=sgd(model.parameters()), precision="bf16", ema=ema)
    for step in run.loop([(inputs, labels)] * 2, epochs=1):
        assert torch.is_autocast_enabled("cpu")
        step.backward(CRITERION(run.model(inputs), labels))
        step.update()
        trained = run.model(inputs).detach()
        (evaluated,) = [run.model(x) for x, _ in run.evaluate([(inputs, labels)])]
    assert not torch.is_autocast_enabled("cpu")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fresh = model(inputs)
    with run.averaged(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        averaged = model(inputs)
    return trained, evaluated, fresh, averaged


def test_validation_right_after_update_sees_the_new_weights():
    """In the body, after ``update()``, outputs equal those of a fresh autocast region."""
    trained, evaluated, fresh, _ = outputs_after_update()
    assert trained.dtype == torch.bfloat16
    assert torch.equal(trained, fresh)
    assert torch.equal(evaluated, fresh)


def test_validation_sees_the_averaged_weights():
    """With an EMA the evaluation in the body equals one of the averages in a fresh region."""
    _, evaluated, fresh, averaged = outputs_after_update(ema=0.5)
    assert torch.equal(evaluated, averaged)
    assert not torch.equal(evaluated, fresh)


def test_stale_weights_would_be_seen(monkeypatch):
    """The comparison can fail: with autocast's cache left as it is, the weights are the old ones."""
    monkeypatch.setattr(Precision, "forget_weights", lambda self: None)
    trained, evaluated, fresh, _ = outputs_after_update()
    assert (trained - fresh).abs().max() > 0.1
    assert (evaluated - fresh).abs().max() > 0.1


def gradients_after_evaluation():
    """Evaluate in the middle of a body and return which parameters then got gradients."""
    torch.manual_seed(0)
    model = Net()
    inputs, labels = tensors()
    run = quiet_run(model=model, optimizer=sgd(model.parameters()), precision="bf16")
    for step in run.loop([(inputs, labels)], epochs=1):
        for x, _ in run.evaluate([(inputs, labels)]):
            run.model(x)
        step.backward(CRITERION(run.model(inputs), labels))
        got = [p.grad is not None for p in model.parameters()]
        step.update()
    return got


def test_row_16_autocast_cache_after_no_grad():
    """After an evaluation in the middle of the body every parameter still gets its gradient."""
    assert all(gradients_after_evaluation())


def test_row_16_a_cache_without_graph_would_be_seen(monkeypatch):
    """Without our clearing, gradients are missing exactly where torch itself still loses them."""
    model = nn.Linear(8, 3)
    inputs, _ = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            model(inputs)
        loss = model(inputs).sum()
    torch_is_right = loss.requires_grad  # since torch 2.13 or so
    monkeypatch.setattr(Precision, "forget_weights", lambda self: None)
    try:
        complete = all(gradients_after_evaluation())
    except UsageError:  # no parameter takes part in the loss
        complete = False
    assert complete is torch_is_right


@pytest.mark.parametrize("how", ["limit", "break", "exception"])
def test_autocast_ends_with_the_loop(how):
    """However the loop ends, no autocast region stays behind."""
    model = nn.Linear(8, 3)
    inputs, labels = tensors()
    run = quiet_run(model=model, optimizer=sgd(model.parameters()), precision="bf16")
    with contextlib.suppress(ZeroDivisionError):
        for step in run.loop([(inputs, labels)] * 3, epochs=1):
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16
            step.backward(CRITERION(run.model(inputs), labels))
            step.update()
            if how == "break":
                break
            if how == "exception":
                raise ZeroDivisionError
    assert not torch.is_autocast_enabled("cpu")


def test_backward_runs_without_autocast():
    """Operations of a custom backward see autocast off, as torch advises."""
    seen = []

    class Spy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            seen.append(torch.is_autocast_enabled("cpu"))
            return grad

    model = nn.Linear(8, 3)
    inputs, labels = tensors()
    run = quiet_run(model=model, optimizer=sgd(model.parameters()), precision="bf16")
    for step in run.loop([(inputs, labels)], epochs=1):
        step.backward(CRITERION(Spy.apply(run.model(inputs)), labels))
        step.update()
    assert seen == [False]
