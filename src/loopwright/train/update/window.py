"""The account of one optimizer's gradients: which turns they come from, with what weight.

A *window* is what one update is made of: ``accumulate`` micro-batches, fewer at an epoch's end.
Backward multiplies a loss by ``weight / unit``; the update divides the summed gradients by
``Σ weight / unit`` once. So a window's gradient is the weighted mean over all its samples (or
tokens), however ragged: against the full batch in float64 the error is 4e-17, where dividing each
loss by the number of micro-batches is off by 0.28. A window of one micro-batch is not multiplied at
all, which keeps the plain loop's bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import Parameter

from loopwright.train.callsite import CallSite


class Window:
    """The open window of one optimizer.

    Attributes:
        turns: micro-batches in it so far; 0 when it is closed.
        total: Σ weight / unit over the window, None while no factor is needed.
        agreed: ``update()`` was called for every turn in it.
        of_all: the same total over all ranks, where it is known without asking them.
        finished: the gradients were unscaled and normalised by ``step.gradients()``.
    """

    __slots__ = (
        "agreed", "factor", "finished", "last_turn", "name", "of_all", "optimizer", "site", "total",
        "turns", "updates", "weight",
    )  # fmt: skip

    def __init__(self, name: str, optimizer: torch.optim.Optimizer):
        self.name = name
        self.optimizer = optimizer
        self.updates = 0
        self.last_turn = -1
        self.clear()

    def clear(self) -> None:
        """Close the window: its gradients are gone."""
        self.turns = 0
        self.total: float | torch.Tensor | None = None
        self.of_all: float | None = None
        self.factor: float | torch.Tensor | None = None
        self.weight: Any = None
        self.agreed = True
        self.finished = False
        self.site: CallSite | None = None

    def add(self, turn: int, factor: Any, weight: Any, site: CallSite) -> None:
        """Note one turn's first backward: ``factor`` is weight / unit, None for a plain backward."""
        self.turns += 1
        self.last_turn = turn
        self.factor = factor
        self.weight = weight
        self.agreed = False
        self.site = site
        if factor is not None:
            self.total = factor if self.total is None else self.total + factor

    def parameters(self) -> list[Parameter]:
        """Return the optimizer's parameters, in the order of its groups."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def has_gradients(self) -> bool:
        """Return whether any parameter of the optimizer holds a gradient."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the account; the gradients themselves are saved with the parameters."""
        return {
            "turns": self.turns,
            "total": self.total,
            "updates": self.updates,
            "finished": self.finished,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self.clear()
        self.turns, self.total = state["turns"], state["total"]
        self.updates, self.finished = state["updates"], state["finished"]
