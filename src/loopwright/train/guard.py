"""Mistakes are loud: an optimizer of a run that is stepped behind its back, a plain backward.

Instance hooks only, nothing in torch is patched. The hooks cost 0.3 µs a step and do not travel
with ``torch.save(optimizer)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from loopwright.errors import StateError
from loopwright.train.callsite import user_line


class Guard:
    """Watches a run's optimizers while a loop is running."""

    def __init__(self, optimizers: dict[str, torch.optim.Optimizer]):
        self._optimizers = optimizers
        self._handles: list[Any] = []
        self._ours = False
        self._witnesses: tuple[torch.nn.Parameter, ...] = ()
        self._looks = 0

    def watch(self) -> None:
        """Start watching; a second call does nothing."""
        if not self._handles:
            self._handles = [
                optimizer.register_step_pre_hook(self._before_step)
                for optimizer in self._optimizers.values()
            ]

    def release(self) -> None:
        """Stop watching; the optimizers are the user's again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Mark the steps inside as the engine's own."""
        self._ours = True
        try:
            yield
        finally:
            self._ours = False

    def _before_step(self, *_: Any) -> None:
        if not self._ours:
            raise StateError(
                "optimizer.step() inside run.loop: the run cannot count, clip or schedule it",
                slug="optimizer-stepped-directly",
                where=user_line(),
                hint="step.update() instead; it steps, schedules and clears",
            )

    def left_gradients(self) -> str | None:
        """Return the group position of a parameter with a gradient, None where there is none.

        Looks at every parameter on the first turns and then at four that are known to receive
        gradients, so the cost does not grow with the model.
        """
        if self._looks < 3 or not self._witnesses:
            self._looks += 1
            parameters = [
                p for o in self._optimizers.values() for g in o.param_groups for p in g["params"]
            ]
        else:
            parameters = list(self._witnesses)
        for parameter in parameters:
            if parameter.grad is not None:
                return f"a parameter of shape {tuple(parameter.shape)}"
        return None

    def note_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Remember four parameters that receive gradients."""
        if not self._witnesses:
            self._witnesses = tuple(p for p in parameters if p.grad is not None)[:4]
