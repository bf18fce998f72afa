"""Gradients of tensors that are no leaves, which keep them because they were asked to."""

from __future__ import annotations

import torch

from explainer.recorded import recorded_here, said


def test_a_gradient_that_is_asked_for_is_told():
    """Its numbers are those that torch wrote; without being asked, nothing is said of it."""

    def train():
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y, z = 100 * x, 3 * x
        y.retain_grad()
        (y.sum() + z.sum()).backward()
        assert y.grad.tolist() == [1.0, 1.0]

    (told,) = [
        one for one in said(recorded_here(train, steps=1, timed=0)) if "which is no leaf" in one
    ]
    assert told.endswith(
        "`.grad` of `y`, which is no leaf, is kept as it was asked to = [1, 1], norm 1.414."
    )
