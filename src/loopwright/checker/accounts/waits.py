"""The account of waits: what reading a number on the host costs in this very run.

``tensor.item()`` and its like wait until the device has computed the value. Each place's reads are counted
and timed beside the time from step to step. Cost: two readings of the clock a read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from loopwright.events import Event
from loopwright.observe.sites import Site

SHARE, LEAST_S = 0.1, 2e-4
"""Of a step's time, and in seconds: a read that waits for less than either is not worth a line."""


class Reads:
    """What one place has read."""

    def __init__(self) -> None:
        self.times = 0
        self.measured = 0
        """Those of real numbers: whole ones are positions and sizes, which the program goes by."""
        self.seconds = 0.0
        self.now = 0.0
        """Seconds in the step that goes on."""
        self.steps = 0
        """Steps in which something was read here."""
        self.slow = 0
        """Those that waited here for long; a hiccup of a busy machine, 150 ms in 48 steps, is one of them."""
        self.last_step = -1


class Waits:
    """The account; see the module.

    Args:
        clock: seconds, like ``time.perf_counter``.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.reads: dict[Site, Reads] = {}
        self.steps = 0
        self.seconds = 0.0
        """From the first to the last observed step."""
        self._last_step: float | None = None
        self._reading: list[Reads] = []
        """Places that were read in the step that goes on."""
        self._began: tuple[int, float] | None = None
        self._fetching = False
        """A loader makes a batch: what a data set reads of its own tensors is no result of the device."""

    def woken(self) -> None:
        """Steps went by unseen: the time until the next one is no step's time."""
        self._last_step = None

    def before_fetch(self, event: Event) -> None:
        """A batch is being made."""
        self._fetching = True

    def after_fetch(self, event: Event) -> None:
        """It is there."""
        self._fetching = False

    def before_item(self, event: Event) -> None:
        """A number is asked for."""
        if not self._fetching:
            self._began = (event.number, self.clock())

    def after_item(self, event: Event) -> None:
        """It is there."""
        began, self._began = self._began, None
        if began is None or began[0] != event.number or self._last_step is None:
            return  # what is read before the first step is part of none
        if event.site is not None and event.site.by_us:
            return  # a run looks at its losses on a CPU alone, and the user could not leave it out
        if event.site not in self.reads and len(self.reads) > 512:
            return
        found = self.reads.setdefault(event.site, Reads())
        found.times += 1
        read = event.subject
        found.measured += not isinstance(read, torch.Tensor) or read.is_floating_point()
        took = self.clock() - began[1]
        if found.last_step != self.steps:
            found.last_step, found.now = self.steps, 0.0
            found.steps += 1
            self._reading.append(found)
        found.seconds += took
        found.now += took

    def after_step(self, event: Event) -> None:
        """One more step, and how long it took since the last."""
        now = self.clock()
        if self._last_step is not None:
            took = now - self._last_step
            for one in self._reading:
                one.slow += one.now >= max(SHARE * took, LEAST_S)
            self.steps += 1
            self.seconds += took
        self._reading.clear()
        self._last_step = now
