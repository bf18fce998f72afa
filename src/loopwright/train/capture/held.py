"""What recordings of a step hold of a program: its tensors, and how its optimizer counts.

A program may put another tensor in the place of one that a recording holds (a buffer, a parameter, an
optimizer's moments that begin anew), train some of the parameters by a loss of its own, or begin to listen
to the optimizer. That is looked at before each replay: 2 µs for four parameters.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from loopwright.train.capture import scalars

if TYPE_CHECKING:
    from loopwright.train.capture.step import CapturedStep
    from loopwright.train.run import Run

HOOKED = "the optimizer has hooks, which a graph does not call"
OFTEN = 8
"""Times that recordings are made anew before one of them was replayed."""


class Held:
    """The tensors of a run as they were when its step was recorded.

    Args:
        run: with one optimizer.

    Attributes:
        updates: of the optimizer, as far as they were made by what is recorded.
    """

    def __init__(self, run: Run):
        self._run = run
        (self._window, *_) = run.stepper.windows.values()
        self._optimizer = self._window.optimizer
        modules = [m for model in run.models.values() for m in model.modules()]
        self._modules = [kept for m in modules for kept in (m._parameters, m._buffers) if kept]
        self._kept: list[dict[Any, Any]] = []
        self._tensors: list[int] | None = None
        self._state: Any = None
        self._states: list[int] = []
        self._apart: Any = None
        self._replayed = self._times = 0
        self.updates = 0

    def hold(self, *, counters: bool) -> None:
        """Note which tensors are there; a recording after others finds the same.

        Args:
            counters: the recording computes from the optimizer's counters, so note how far apart they are.
        """
        if self._tensors is not None:
            return
        self._state = self._optimizer.state
        self._states = [*map(id, self._state.values())]
        self._kept = [*self._modules, *self._state.values()]
        self._tensors = self._ids()
        self._apart = scalars.apart(self._optimizer) if counters else None
        self.updates = self._window.updates

    def forget(self) -> None:
        """Let go of them, with the recordings."""
        self._tensors = self._apart = None
        self._kept = []

    def look(self, step: CapturedStep) -> None:
        """Let ``step`` forget its recordings, or give up, where they are no longer what the program does."""
        if self._run.stepper.guard.is_hooked(self._optimizer):
            step.give_up(HOOKED)
        if self._tensors is None:
            return
        if not self._are_there():
            self._times = 1 if step.replayed > self._replayed else self._times + 1
            self._replayed = step.replayed
            step.forget()
            if self._times > OFTEN:
                step.give_up(
                    "a parameter, a buffer or the optimizer's state is another tensor each time"
                )
        elif (
            self._apart is not None and self.updates != self._window.updates
        ):  # others trained, too
            self.updates = self._window.updates
            if scalars.apart(self._optimizer) != self._apart:
                step.give_up("the optimizer's parameters have made different numbers of updates")

    def _are_there(self) -> bool:
        state = self._optimizer.state
        return (
            state is self._state and [*map(id, state.values())] == self._states
            and self._ids() == self._tensors
        )  # fmt: skip

    def _ids(self) -> list[int]:
        return [*map(id, chain.from_iterable(map(dict.values, self._kept)))]
