"""Evaluation gives every module its own mode back, and moves no running statistics."""

from __future__ import annotations

import contextlib

import pytest
import torch
from material import Net, prepared, quiet_run, state, valid_loader
from torch import nn

ENDS = ["complete", "break", "exception", "inside a function that returns"]


def sgd(parameters):
    """Return an optimizer."""
    return torch.optim.SGD(parameters, lr=0.05)


def frozen_norm():
    """Return the classifier with its BatchNorm in eval: the user's wish."""
    model = Net()
    model.layers[1].eval()
    return model


def evaluate(run, loader, how):
    """Evaluate and end it in one of four ways."""
    with contextlib.suppress(ZeroDivisionError):
        for inputs, _labels in run.evaluate(loader):
            run.model(inputs)
            assert not any(m.training for m in run.model.modules())
            assert not torch.is_grad_enabled()
            if how == "break":
                break
            if how == "exception":
                raise ZeroDivisionError
            if how == "inside a function that returns":
                return


@pytest.mark.parametrize("how", ENDS)
def test_row_09_evaluation_leaves_train_mode_or_thaws_a_frozen_norm(how):
    """Modes of all submodules, statistics, grad mode and generators are as before, however it ends."""
    model, optimizer, loader = prepared(sgd, model=frozen_norm)
    run = quiet_run(model=model, optimizer=optimizer)
    checked = 0
    for step in run.loop(loader, epochs=1):
        inputs, labels = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
        step.update()
        modes = [m.training for m in model.modules()]
        before, draws = state(model), torch.get_rng_state()
        evaluate(run, valid_loader(), how)
        assert [m.training for m in model.modules()] == modes
        assert modes.count(False) == 1
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), draws)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        checked += 1
    assert checked == len(loader)


def test_row_09_model_train_would_be_seen():
    """The comparison can fail: ``model.train()`` after validation thaws the BatchNorm."""
    model, *_ = prepared(sgd, model=frozen_norm)
    modes = [m.training for m in model.modules()]
    model.eval()
    model.train()
    assert [m.training for m in model.modules()] != modes


def test_a_model_that_was_left_in_eval_trains():
    """A trained model in eval as a whole goes to train mode; one that no optimizer holds stays."""
    torch.manual_seed(0)
    student, teacher = Net().eval(), Net().eval()
    run = quiet_run(
        model={"student": student, "teacher": teacher}, optimizer=sgd(student.parameters())
    )
    before = state(teacher)
    for step in run.loop([torch.randn(4, 8)], epochs=1):
        assert student.training
        assert not any(m.training for m in teacher.modules())
        with torch.no_grad():
            wanted = teacher(step.batch)
        step.backward((student(step.batch) - wanted).square().mean())
        step.update()
        for x in run.evaluate([torch.randn(4, 8)]):
            student(x)
        assert student.training
        assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
