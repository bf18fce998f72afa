"""What is picked out of probabilities, one a row, and whether the rows were normalised.

A policy takes its action's probability (or its logarithm) out of each row, by ``gather`` or by an index.
Where the softmax ran down the columns, the samples of a batch share one unit of probability, and no loss
function is there to see it.
"""

from __future__ import annotations

from typing import Any

import torch

from loopwright.checker.accounts.lasts import padded_share
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content, graph
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site

FIRST_OF_TWO = (0, 2**64 - 2)
"""A dimension that was given as -2 is saved as an unsigned number."""


class Picks:
    """The account; see the module."""

    def __init__(self) -> None:
        self.columns = Tally()
        """By the place of the softmax, or of the backward pass where that was not noted."""
        self.padded = Tally()
        """Backward passes below which the last position of rows that end in padding was taken."""
        self.unpadded = Tally()
        """The looked-at ones without."""
        self._passes: dict[Site, int] = {}

    def before_backward(self, event: Event) -> None:
        """Look at the picks of this graph, now and then."""
        root = event.subject
        if not isinstance(root, torch.Tensor) or root.grad_fn is None:
            return
        count = self._passes[event.site] = self._passes.get(event.site, 0) + 1
        if not is_power_of_two(count):
            return
        most = 0.0
        for node in graph.nodes(root.grad_fn, 20_000):
            if node.name().startswith("SelectBackward"):
                with content.quiet():
                    most = max(most, padded_share(node))
            softmax = _picked_from(node)
            if softmax is None:
                continue
            values = graph.saved(softmax, "result")
            if (
                graph.saved(softmax, "dim") in FIRST_OF_TWO
                and isinstance(values, torch.Tensor)
                and values.dim() == 2
                and min(values.shape) > 1
            ):
                at = graph.maker_of(softmax) or event.site
                seen = self.columns.add(at, backward=event.site)
                seen.facts["shape"] = tuple(values.shape)
        if most:
            self.padded.add(event.site).facts["share"] = most
        else:
            self.unpadded.add(event.site)


def _picked_from(node: Any) -> Any:
    """The softmax that one value of each row was taken from; None for everything else."""
    name = node.name()
    if name.startswith("Gather"):
        if graph.saved(node, "dim") not in (1, 2**64 - 1):
            return None
    elif name.startswith("IndexBackward"):
        rows, *others = graph.saved(node, "indices") or (None,)
        if not isinstance(rows, torch.Tensor) or len(others) != 1 or rows.dim() != 1:
            return None
        if not torch.equal(rows, torch.arange(len(rows), device=rows.device, dtype=rows.dtype)):
            return None
    else:
        return None
    below = [inner for inner, _ in node.next_functions if inner is not None]
    found = below[0] if len(below) == 1 else None
    if found is not None and found.name().startswith("Log") and "Softmax" not in found.name():
        found = next((inner for inner, _ in found.next_functions if inner is not None), None)
    if found is None or not found.name().startswith(("SoftmaxBackward", "LogSoftmaxBackward")):
        return None
    return found
