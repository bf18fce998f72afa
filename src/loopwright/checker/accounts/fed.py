"""What layers are fed with: the output of another linear layer as it is, or numbers far from zero.

A part of the parameter account, which hands it the recorded forwards and the looked-at steps.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.sites import Site

if TYPE_CHECKING:
    from loopwright.checker.accounts.optimizers import Entry
    from loopwright.checker.accounts.parameters import Parameters


class Fed:
    """The account; see the module."""

    def __init__(self) -> None:
        self.stacked = Tally()
        """(layer, layer): linear layers that followed each other with nothing in between."""
        self.large_inputs = Tally()
        self._first: dict[Site, weakref.ref[nn.Module]] = {}
        """The first layer with weights behind each large input."""

    def after_forward(self, event: Event, inner: list[Any], book: Parameters) -> None:
        """Look at one recorded forward with gradients."""
        self._stacked(event, inner, book)
        self._large_input(event, inner)

    def before_step(self, entry: Entry) -> None:
        """Compare the gradient of each first layer with those of the rest."""
        for site, ref in self._first.items():
            layer = ref()
            own = {id(one) for one in layer.parameters(recurse=False)} if layer is not None else ()
            first: list[torch.Tensor] = []
            others: list[torch.Tensor] = []
            for one in entry.parameters():
                if one.grad is not None and content.readable(one.grad):
                    (first if id(one) in own else others).append(one.grad)
            if first:
                norms = {"first": content.norm(first), "others": content.norm(others)}
                self.large_inputs.get(site).facts |= norms

    def _stacked(self, event: Event, inner: list[Any], book: Parameters) -> None:
        """A linear layer whose input is the output of another, which does not narrow in between."""
        previous = None
        for call in inner:
            layer = call.module
            if isinstance(layer, nn.Linear):
                if previous is not None and call.made_by == previous.result_made_by != 0:
                    before = previous.module
                    narrow = min(before.in_features, layer.out_features)
                    if before.out_features == layer.in_features >= narrow:
                        birth = book.births.get(id(layer))
                        made = birth.site if birth else None
                        if call.direct and previous.direct:
                            made = call.site  # forward lacks something, not the list of layers
                        pair = (written(before), written(layer))
                        seen = self.stacked.add(pair, forward=event.site, made=made)
                        seen.facts |= cost(before, layer, call.elements)
                previous = call
            elif not any(True for _ in layer.children()):
                previous = None

    def _large_input(self, event: Event, inner: list[Any]) -> None:
        """Values between 0 and 255, as pixels come."""
        first = next((one for one in event.args if isinstance(one, torch.Tensor)), None)
        if (
            first is None
            or not first.is_floating_point()
            or first.requires_grad
            or not content.readable(first)
        ):
            return
        if not 2 <= first.dim() <= 5 or first.numel() < 16:
            return
        with content.quiet():
            taken = content.sample(first, 1024).float()
            low, high, mean = float(taken.min()), float(taken.max()), float(taken.mean())
            spread = float(taken.std())
        if low >= 0 and 100 < high <= 255 and mean > 10:
            seen = self.large_inputs.add(event.site)
            seen.facts |= {"low": low, "high": high, "mean": mean, "spread": spread}
            called = (*(call.module for call in inner), event.subject)
            layer = next(
                (m for m in called if any(True for _ in m.parameters(recurse=False))), None
            )
            if layer is not None:
                self._first[event.site] = weakref.ref(layer)


def written(layer: nn.Linear) -> str:
    """A linear layer as it is written."""
    return f"Linear({layer.in_features}, {layer.out_features})"


def cost(before: nn.Linear, layer: nn.Linear, elements: int) -> dict[str, Any]:
    """Multiply-adds of one forward and weights: of two linear layers, and of their product."""
    into, between, out = before.in_features, layer.in_features, layer.out_features
    rows = elements // between
    bias = out if layer.bias is not None or before.bias is not None else 0
    return {
        "rows": rows,
        "work": rows * between * (into + out),
        "work of one": rows * into * out,
        "weights": sum(p.numel() for one in (before, layer) for p in one.parameters()),
        "weights of one": into * out + bias,
        "one": f"Linear({into}, {out})",
    }
