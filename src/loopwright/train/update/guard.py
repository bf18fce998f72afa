"""Mistakes are loud: an optimizer of a run that is stepped behind its back, a plain backward.

Instance hooks only, nothing in torch is patched. The hooks cost 0.3 µs a step and do not travel
with ``torch.save(optimizer)``.

torch wraps each optimizer's step: its name goes into profiles, and hooks are called. Where neither a
profile is taken nor a hook but ours is there, the engine calls what is wrapped: of a step of 50 µs on a
small model that leaves out 10 to 18.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from loopwright.errors import StateError
from loopwright.train.callsite import user_line
from loopwright.train.update import direct
from loopwright.train.update.gradients import Groups

# torch's own names, which another version may have given up: then the wrapper stays.
_TORCHS = sys.modules[torch.optim.Optimizer.__module__]
_FOR_ALL = [
    getattr(_TORCHS, f"_global_optimizer_{when}_hooks", {"unknown": None})
    for when in ("pre", "post")
]
_WRAP = getattr(torch.optim.Optimizer, "profile_hook_step", None)
_WRAPPER = object() if _WRAP is None else _WRAP(lambda *_: None).__code__  # of every wrapped step
_is_profiled = getattr(torch.autograd, "_profiler_enabled", lambda: True)


def _is_schedulers(step: Any) -> bool:
    return hasattr(step, "_wrapped_by_lr_sched") and hasattr(step, "__wrapped__")


class Guard:
    """Watches a run's optimizers while a loop is running."""

    def __init__(self, optimizers: dict[str, torch.optim.Optimizer]):
        self._optimizers = optimizers
        self._handles: list[Any] = []
        self._ids: set[int] = set()
        self._ours = False

    def watch(self) -> None:
        """Start watching; a second call does nothing."""
        if not self._handles:
            self._handles = [
                optimizer.register_step_pre_hook(self._before_step)
                for optimizer in self._optimizers.values()
            ]
            self._ids = {handle.id for handle in self._handles}

    def release(self) -> None:
        """Stop watching; the optimizers are the user's again."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._ids = [], set()

    def is_unheard(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether nobody would miss torch's wrapper around an optimizer's step."""
        step, own = type(optimizer).step, optimizer.__dict__.get("step")
        return (
            getattr(step, "__code__", None) is _WRAPPER  # nobody else's is around it
            and (own is None or (_is_schedulers(own) and own.__wrapped__ is step))
            and not self.is_hooked(optimizer) and not _is_profiled()
        )  # fmt: skip

    def is_hooked(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether hooks but ours are called at an optimizer's step."""
        return (
            bool(optimizer._optimizer_step_post_hooks) or any(_FOR_ALL)
            or not optimizer._optimizer_step_pre_hooks.keys() <= self._ids
        )  # fmt: skip

    def step_unheard(
        self, optimizer: torch.optim.Optimizer, groups: Groups, dtype: torch.dtype | None
    ) -> None:
        """Step without torch's wrapper, where `is_unheard`.

        Args:
            optimizer: whose.
            groups: its gradients.
            dtype: of all its gradients, where they are dense and on a CPU; else None.
        """
        # What a scheduler's wrapper does: its own step warns where no optimizer's came before.
        if "step" in optimizer.__dict__:
            optimizer._opt_called = True  # pyrefly: ignore[missing-attribute]
        if dtype is None or not direct.step(optimizer, groups, dtype):
            with self.ours():  # a step may call its base class's, which is wrapped
                type(optimizer).step.__wrapped__(optimizer)  # pyrefly: ignore[missing-attribute]

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
        """Return a parameter with a gradient by its shape, None where there is none (0.1 µs a parameter)."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        return f"a parameter of shape {tuple(parameter.shape)}"
        return None
