"""Plain functions on named moments of a run.

========== ============================================== ======================================
moment     fires                                           ``event.values``
========== ============================================== ======================================
loop_begin before a loop's first turn (also when resumed)  ``{}``
epoch_begin before an epoch's first turn                   ``{}``
update     after an update (not when fp16 skipped it)      ``{}``
log        at most twice a second, and at an epoch's end   loss, lr, grad_norm, samples_per_s …
validation after ``run.evaluate`` ended (not when left)    ``{}``
epoch_end  after an epoch's last turn                      train_loss and everything logged
checkpoint after a checkpoint was handed to the writer     name, reason
loop_end   after a loop ended, whatever ended it           ``{"how": "limit" | "break" | "stop"}``
close      when the run is closed                          ``{}``
========== ============================================== ======================================

Order at an epoch's end: the body's last turn with its validation, ``log``, ``epoch_end``, the
per-epoch schedulers, the checkpoint. What fires when a run ends early:

===================== =========== ========= ========== ======== =====
ended by              epoch_end   log       checkpoint loop_end close
===================== =========== ========= ========== ======== =====
its limit             yes         yes       yes        yes      yes
``run.stop()``        if at one   yes       yes        yes      yes
``break``, ``return`` no          yes       yes        yes      yes
Ctrl-C, SIGTERM       if at one   yes       yes        no       yes
an exception          no          no        no         no       yes
===================== =========== ========= ========== ======== =====

("if at one": only where the turn that ended the run also ended an epoch; a body that ``break`` left
did not come to the epoch's end.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.train.run import Run
    from loopwright.train.step import Step

MOMENTS = (
    "loop_begin", "epoch_begin", "update", "log", "validation",
    "epoch_end", "checkpoint", "loop_end", "close",
)  # fmt: skip


@dataclass(slots=True)
class Event:
    """What a callback is called with.

    Attributes:
        moment: one of ``MOMENTS``.
        run: the run.
        step: the current step, None between turns.
        turn: turns of this loop that are complete, or under way inside one.
        epoch: 0-based.
        values: see the table of this module.
    """

    moment: str
    run: Run
    step: Step | None = None
    turn: int = 0
    epoch: int = 0
    values: dict[str, Any] = field(default_factory=dict)


Callback = Callable[[Event], Any]


class Moments:
    """Who is called when; functions of one moment are called in the order of their registration."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Callback]] = {moment: [] for moment in MOMENTS}

    def on(self, moment: str, function: Callback) -> None:
        """Register ``function`` for ``moment``."""
        if moment not in self._functions:
            near = get_close_matches(str(moment), MOMENTS, 1)
            raise UsageError(
                f"no moment is called {moment!r}",
                slug="unknown-moment",
                hint=f"{near[0]!r}?" if near else f"one of {', '.join(MOMENTS)}",
            )
        self._functions[moment].append(function)

    def wanted(self, moment: str) -> bool:
        """Return whether anybody listens to ``moment``."""
        return bool(self._functions[moment])

    def fire(self, event: Event) -> None:
        """Call every function of the event's moment; what one raises is the user's to see."""
        for function in self._functions[event.moment]:
            function(event)


class early_stopping:  # noqa: N801 - used like a function: callbacks=[lw.early_stopping(...)]
    """Stop a run when a logged value has not improved for ``patience`` epochs.

    Args:
        name: a value of ``step.log``, or ``"train_loss"``.
        patience: epochs without improvement that are allowed.
        mode: ``"min"`` or ``"max"``.
        least: improvement that counts.

    Example:
        >>> stop = early_stopping("valid_loss", patience=2)
        >>> stop.patience
        2
    """

    def __init__(self, name: str, patience: int = 3, mode: str = "min", least: float = 0.0):
        if mode not in ("min", "max"):
            raise UsageError(f"mode is 'min' or 'max', got {mode!r}", slug="unknown-mode")
        if patience < 1:
            raise UsageError(f"patience is 1 or more, got {patience}", slug="patience-out-of-range")
        self.name, self.patience, self.mode, self.least = name, patience, mode, least
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0

    def __call__(self, run: Run) -> None:
        """Register with ``run``; called by ``Run(callbacks=[...])``."""
        run.on("epoch_end", self._look)
        run.track(f"early_stopping/{self.name}", self)

    def _look(self, event: Event) -> None:
        if self.name not in event.values:
            raise UsageError(
                f"early stopping watches {self.name!r}, which epoch {event.epoch + 1} did not log "
                f"(it has {', '.join(event.values)})",
                slug="unknown-value",
                hint=f"step.log({self.name}=…) before the epoch ends",
            )
        value = event.values[self.name]
        sign = 1.0 if self.mode == "min" else -1.0
        if sign * (self.best - value) > self.least:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            event.run.stop(
                f"{self.name} has not improved on {self.best:.6g} for {self.waited} epochs"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the epochs waited."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self.best, self.waited = state["best"], state["waited"]
