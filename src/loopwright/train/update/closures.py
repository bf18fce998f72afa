"""``step.minimize``: an optimizer that evaluates the loss as often as it likes (LBFGS, SAM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.errors import StateError, UsageError
from loopwright.train.callsite import CallSite, where
from loopwright.train.process import randomness
from loopwright.train.update import gradients
from loopwright.train.update.loss import check_loss
from loopwright.train.update.nonfinite import LeftOut
from loopwright.train.update.window import Window

if TYPE_CHECKING:
    from loopwright.train.update.stepper import Stepper


def minimize(
    stepper: Stepper, fn: Callable[[], Tensor], window: Window, *, turn: int, site: CallSite,
    device: torch.device,
) -> Tensor | None:  # fmt: skip
    """Let an optimizer evaluate ``fn`` as often as it likes; returns the first loss, detached.

    None where a gradient was not finite and the run has gone back to a checkpoint.

    Every evaluation clears the gradients, starts from the same generator states, runs backward
    and clips; the generators end where one evaluation leaves them.
    """
    if stepper.precision.scaler is not None:
        raise UsageError(
            'step.minimize() evaluates more than once per update, which precision="fp16" cannot',
            slug="minimize-fp16", where=where(site), hint='precision="bf16" or "fp32"',
        )  # fmt: skip
    if stepper.nonfinite.policy == "skip":
        raise UsageError(
            "step.minimize() moves the weights before it knows that a loss is not finite, so "
            "nonfinite='skip' cannot leave that out",
            slug="minimize-skip", where=where(site), hint="nonfinite='rewind' or 'stop'",
        )  # fmt: skip
    if window.turns:
        raise StateError(
            "step.minimize() inside an accumulation window: gradients of earlier turns wait",
            slug="minimize-in-window", where=where(site), hint="accumulate=1 with closures",
        )  # fmt: skip
    stepper.untouched = False
    start = randomness.snapshot(device)
    losses: list[Tensor] = []
    inputs = None
    if len(stepper._all) > 1:
        inputs = [p for p in window.parameters() if p.requires_grad]

    def closure() -> Tensor:
        if losses:
            randomness.restore(start, device)
        for group in window.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        stepper.precision.forget_weights()
        with torch.enable_grad():
            loss = fn()
            check_loss(loss, "the loss that fn() returned to step.minimize()", site)
            loss = stepper.for_all(loss)
            with nullcontext() if stepper._fp32 else stepper.precision.off():
                torch.autograd.backward(loss, inputs=inputs)
            loss = stepper.of_all(loss, window)
        window.site = site
        grads = gradients.of(stepper.order.sort(window.parameters()))
        if not grads:
            raise StateError(
                "step.minimize(fn): no parameter of the optimizer got a gradient from fn()",
                slug="no-gradient", where=where(site),
            )  # fmt: skip
        stepper._measure_and_clip(grads, gradients.are_alike(grads), (window,), turn)
        losses.append(loss.detach())
        return loss

    # torch's own optimizers evaluate the closure before they use a gradient; others (some SAMs)
    # expect the first gradient to be there already.
    evaluate: Any = closure
    if not type(window.optimizer).__module__.startswith("torch.optim"):
        evaluate = Evaluated(closure, window.parameters())
    try:
        with stepper.guard.ours():
            window.optimizer.step(evaluate)
    except LeftOut:
        stepper._clear(window)
        return None
    if not losses:
        raise StateError(
            f"{type(window.optimizer).__name__}.step(closure) never called the closure",
            slug="closure-not-called", where=where(site),
        )  # fmt: skip
    stepper._clear(window)
    window.last_turn = turn
    window.updates += 1
    stepper.precision.forget_weights()
    stepper._after_step([window], None)
    return losses[0]


class Evaluated:
    """A closure that was evaluated already, for an optimizer that may expect the gradients.

    If the optimizer evaluates first instead, with the weights still as they were, it gets that
    evaluation: BatchNorm's statistics and the cost are those of the evaluations it asked for.
    """

    def __init__(self, closure: Callable[[], Tensor], parameters: Sequence[Tensor]):
        self._closure = closure
        self._parameters = parameters
        self._before = [p.detach().clone() for p in parameters]
        self._loss: Tensor | None = closure()
        self._grads = [None if p.grad is None else p.grad.clone() for p in parameters]

    def __call__(self) -> Tensor:
        """Evaluate, or return what was evaluated."""
        loss, self._loss = self._loss, None
        unmoved = loss is not None and all(
            torch.equal(p, before) for p, before in zip(self._parameters, self._before, strict=True)
        )
        if loss is None or not unmoved:
            loss = self._closure()
        else:
            for parameter, grad in zip(self._parameters, self._grads, strict=True):
                parameter.grad = grad  # the optimizer may have cleared them first
        self._before, self._grads = [], []
        return loss
