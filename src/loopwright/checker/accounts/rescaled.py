"""Gradients that are limited by hand while they are still multiplied by the scaler's factor.

``clip_grad_norm_`` is seen when it is called. A limit of the program's own shows in what it leaves: the
gradients are not those of the backward pass, and their norm, or their largest element, is one number at step
after step, whatever the batch. That the scaler is about to divide this number says the rest.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from loopwright.checker.accounts.gradients import Gradients
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.sites import Site

LOOKS = 8


class Rescaled:
    """The account; see the module. It must hear of the scaler's step before the gradient account does."""

    def __init__(self, gradients: Gradients):
        self.gradients = gradients
        self.looks: dict[int, list[tuple[float, float, float]]] = {}
        """Order of an optimizer -> norm, largest element, and scale, at steps with altered gradients."""
        self.sites: dict[int, Site] = {}
        """Where a gradient was multiplied, else where the scaler steps."""
        self.times: dict[int, int] = {}
        """How many of the looked-at steps that were."""
        self._left: dict[int, list[tuple[Any, torch.Tensor]]] = {}
        """Parameters, and samples of the gradients that the latest pass left in them."""
        self._steps = 0

    def before_multiply(self, event: Event) -> None:
        """``grad.mul_(...)`` while the scaler is in use."""
        if not self.gradients.scaler_enabled:
            return
        for entry in self.gradients.optimizers.here():
            for ledger in entry.ledgers:
                parameter = ledger.ref()
                if parameter is not None and parameter.grad is event.subject:
                    self.sites[entry.order] = event.site

    def after_backward(self, event: Event) -> None:
        """Sample what a scaled pass left: ``.grad.data.clamp_`` writes past the version counters."""
        if not self.gradients.scaler_enabled or event.failed or not self._due():
            return
        for entry in self.gradients.optimizers.here():
            held = [ledger.ref() for ledger in entry.ledgers]
            self._left[entry.order] = [
                (weakref.ref(p), content.sample(p.grad))
                for p in held
                if p is not None and content.readable(p.grad)
            ]

    def after_clip(self, event: Event) -> None:
        """Torch's own clipping is the gradient account's affair."""
        self._left.clear()

    def _due(self) -> bool:
        return self._steps < LOOKS or content.is_power_of_two(self._steps)

    def before_scaler_step(self, event: Event) -> None:
        """Are the gradients still scaled, and no longer those of the backward pass?"""
        optimizer = event.args[1] if len(event.args) > 1 else event.kwargs.get("optimizer")
        if not self.gradients.scaler_enabled or not isinstance(optimizer, torch.optim.Optimizer):
            return
        entry = self.gradients.optimizers.of(optimizer, event)
        due = self._due()
        self._steps += 1
        left = self._left.pop(entry.order, [])
        if not due or entry.tally.get("unscaled").facts.get("now"):
            return
        if all(same_gradient(ref(), before) for ref, before in left):
            return
        self.times[entry.order] = self.times.get(entry.order, 0) + 1
        self.sites.setdefault(entry.order, event.site)
        grads = [p.grad for p in entry.parameters() if p.grad is not None]
        if grads and all(map(content.readable, grads)):
            looks = self.looks.setdefault(entry.order, [])
            looks.append((content.norm(grads), largest(grads), float(event.args[0].get_scale())))

    def limited(self) -> list[tuple[int, str, float, float]]:
        """(order of an optimizer, "norm" or "largest element", its one value, the scale)."""
        found = []
        for order, looks in self.looks.items():
            for index, what in ((0, "norm"), (1, "largest element")):
                values = [look[index] for look in looks]
                scale = min(look[2] for look in looks) if looks else 0.0
                low, high = min(values, default=0.0), max(values, default=0.0)
                if len(values) >= 4 and 0 < high < 1.002 * low and high < scale / 256:
                    found.append((order, what, high, scale))
                    break
        return found


def largest(grads: list[torch.Tensor]) -> float:
    """The largest magnitude of all elements."""
    with content.quiet():
        return max(float(one.detach().abs().max()) for one in grads if one.numel())


def same_gradient(parameter: torch.Tensor | None, before: torch.Tensor) -> bool:
    """True when a gradient is what it was, where that can be told."""
    now = parameter.grad if parameter is not None else None
    return now is None or not content.readable(now) or content.same(before, content.sample(now))
