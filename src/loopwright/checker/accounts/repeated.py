"""One and the same batch in all passes of a window: its gradient is computed anew and added again.

The weights do not change within a window, so equal batches have equal losses, to the last bit, where a model
draws nothing; other batches have others. The value of a loss is read in the first passes only, for reading it
waits for the device.
"""

from __future__ import annotations

import math

import torch

from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe import content
from loopwright.observe.sites import Site

READS = 64


class Repeated:
    """The account; see the module. It must hear of a step after the gradient account."""

    def __init__(self, optimizers: Optimizers):
        self.optimizers = optimizers
        self.alike = Tally()
        """Windows in which all passes of a place had one value, by that place."""
        self.unlike = Tally()
        """Those in which they had several."""
        self._reads = 0
        self._values: dict[Site, list[float]] = {}

    def before_backward(self, event: Event) -> None:
        """Read the loss."""
        root = event.subject
        if self._reads >= READS or event.kwargs.get("inputs") is not None:
            return
        if not content.readable(root) or root.numel() != 1 or root.grad_fn is None:
            return
        self._reads += 1
        with content.quiet():
            self._values.setdefault(event.site, []).append(float(root.detach()))

    def woken(self) -> None:
        """Steps went by unseen."""
        self._values = {}

    def before_step(self, event: Event) -> None:
        """The end of a window, if the gradients of all these passes were still there."""
        values, self._values = self._values, {}
        optimizer = event.subject
        if not isinstance(optimizer, torch.optim.Optimizer):
            return
        sizes = self.optimizers.of(optimizer, event).sizes
        for site, seen in values.items():
            if len(seen) < 2 or not sizes or sizes[-1] != (site, len(seen)):
                continue
            if len(set(seen)) > 1 or not math.isfinite(seen[0]) or seen[0] == 0.0:
                self.unlike.add(site)
                continue
            found = self.alike.add(site, step=event.site)
            found.facts.setdefault("values", set()).add(seen[0])
            found.facts["passes"] = len(seen)
