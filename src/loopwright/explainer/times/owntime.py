"""The program's own time: the clock, without what we took for ourselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ROUNDS, CALLS = 7, 50
Mark = tuple[int, int]
"""A time on the clock, and all that was ours until then."""


class OwnTime:
    """Nanoseconds of a clock, told apart into the program's and ours.

    Args:
        clock: in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int]):
        self.clock = clock
        self.ours = 0
        """All that was ours until now."""
        self.since = clock()
        """When the program's time was last taken."""
        self.gap = 0
        """Of Python's tracing between ``leave`` and the next ``arrive``, where nothing runs."""
        self.call = 0
        """Of Python's tracing in a function that is not followed: 1.5 µs, most of it in its instructions."""
        self.hook = 0
        """Of a hook around an event, beside what its listeners take."""
        self._ours_then = 0
        self._came = 0
        self._inside = False
        """Everything that runs is ours, from ``arrive`` to ``leave``."""
        self._collecting: Mark | None = None
        """When the garbage collector began."""

    def now(self) -> int:
        """The program's own time: the clock, without all that was ours until now."""
        return self.clock() - self.ours

    def collects(self, phase: str) -> None:
        """The garbage collector begins or ends: most of what it goes through is what was recorded."""
        if self._inside:
            return
        if phase == "start":
            self._collecting = self.mark()
        elif self._collecting is not None:
            self.spend(self._collecting)
            self._collecting = None

    def mark(self) -> Mark:
        """Something of ours begins."""
        return self.clock(), self.ours

    def spend(self, since: Mark, more: int = 0) -> None:
        """It ends: all since then was ours, once, whatever was counted as ours meanwhile, and ``more``."""
        began, ours = since
        self.ours = max(self.ours, ours + self.clock() - began) + more

    def called(self) -> None:
        """A function that is not followed is called while Python traces."""
        if not self._inside:
            self.ours += self.call

    def calibrate(self, trace: Any) -> None:
        """Measure ``gap``, and ``call`` under a trace function that does not follow what is in this file.

        Of ``call`` the lower quarter: another program that takes the processor must not be subtracted later.
        """
        self._calibrate_gap()
        self.call = 0

        def calls() -> int:
            began = self.clock()
            for _ in range(CALLS):
                _usual(CALLS)
            return self.clock() - began

        before = sys.gettrace()
        more = []
        for _ in range(ROUNDS):
            alone = calls()
            sys.settrace(trace)
            traced = calls()
            sys.settrace(before)
            more.append(traced - alone)
        self.call = max(0, sorted(more)[ROUNDS // 4] // CALLS)

    def _calibrate_gap(self) -> None:
        """The lower quarter of statements that do nothing."""
        gaps: list[int] = []

        def trace(*_: Any) -> Any:
            self.arrive()
            gaps.append(self._came - self.since)
            self.resume(self._came)
            self.leave()
            return trace

        def nothing() -> None:
            for _ in range(200):
                pass

        before = sys.gettrace()
        sys.settrace(trace)
        nothing()
        sys.settrace(before)
        self.gap = sorted(gaps[50:])[len(gaps[50:]) // 4]

    @contextmanager
    def spent(self) -> Iterator[None]:
        """What is done inside is ours."""
        began = self.clock()
        yield
        if not self._inside:  # else ``leave`` counts it
            self.ours += self.clock() - began

    def arrive(self) -> None:
        """What runs from here on is ours."""
        self._came = self.clock()
        self._inside = True

    def leave(self) -> None:
        """It is the program's time again."""
        if self._came:
            self.ours += self.clock() - self._came
            self._came = 0
        else:
            self.resume(self.since)
        self._inside = False

    def taken(self) -> tuple[int, int]:
        """When ours began just now, and what the program took between the last ``resume`` and that."""
        if self._inside and not self._came:
            return self.since, 0
        now, self._came = self._came or self.clock(), 0
        took = now - self.since - (self.ours - self._ours_then)
        self.since, self._ours_then = now, self.ours
        return now, max(0, took - self.gap) if self._inside else took

    def resume(self, began: int) -> None:
        """All since ``began`` was ours, and a new stretch of the program's begins."""
        if self._inside and not self._came:
            began = self.since
        self.ours += self.clock() - began
        self._ours_then = self.ours
        self.since = self.clock()


def _usual(count: int) -> int:
    """A function of a usual length: where Python traces, each instruction takes longer."""
    settings = {"count": count, "more": 1}
    if isinstance(count, int) and count:
        for name, value in settings.items():
            if name is None:
                continue
            count += value
    return count
