"""Which statement allocated and freed how many bytes, from torch's own profiler.

The profiler's record callbacks change no kernel and no value. A marker at every boundary between statements
stands in the same stream as the allocations; what we allocate ourselves lies inside a marker of its own and
is left out.

A call that the profiler saw begin writes its end into the profiler's memory, also when that profiler is gone
and another one runs: the numbers go into whatever lies there by then, and the process crashes later. So only
calls of torch's own functions are recorded, which end before the program's next statement, and not those of
``record_function`` (an optimizer's step is one, a loader's fetch, and what a program opens itself). Where
statements of the program run inside such a function after all, counting does not go on once it ended there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._C._profiler import RecordScope, _RecordFunctionFast

from loopwright.observe.swap import AttributePatch

OURS = "loopwright at work"
MARK = "loopwright segment "
END = "loopwright end"
STARTS = ("_prepare_profiler", "_enable_profiler")
"""What every profiler of torch's calls when it begins."""
OTHERS = "the program runs a profiler of its own, so allocations were not counted"


class _Here(threading.local):
    """Of one thread."""

    inside = False
    """What runs is ours."""


class Memory:
    """Allocations of one stretch of a program, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self.profile: Any = None
        self.refused = ""
        self.visits: list[Any] = []
        self.patches: list[AttributePatch] = []
        self.thread = 0
        self.here = _Here()

    @property
    def running(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self.profile is not None

    def start(self) -> None:
        """Begin, unless the program profiles itself."""
        if self.running or self.refused:
            return
        if torch._C._autograd._profiler_enabled():
            self.refused = OTHERS
            return
        from torch.autograd import profiler

        # Allocations of every device are told of; ``use_device="cuda"`` would put two events around each
        # operation into its stream, also into one that a graph is captured from.
        made = profiler.profile(use_cpu=True, profile_memory=True)
        only = AttributePatch(profiler, "_enable_profiler", _of_functions)
        try:
            with _silence():
                made.__enter__()
        finally:
            only.restore()
        self.profile = made
        self.thread = threading.get_ident()
        self.patches = [AttributePatch(profiler, name, self._giving_way) for name in STARTS]

    def _giving_way(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The program's own profiler begins: two at a time take each other's results."""

        def begins(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == self.thread:
                self.stop()
                self.refused = OTHERS
            return original(*args, **kwargs)

        return begins

    def mark(self, visit: Any) -> None:
        """What is allocated from here on belongs to ``visit``."""
        if self.profile is not None:
            self.visits.append(visit)
            with _RecordFunctionFast(f"{MARK}{len(self.visits) - 1}"):
                pass

    def ours(self) -> Any:
        """A context whose allocations are ours."""
        return self._unrecorded() if self.profile is not None else nullcontext()

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        """Inside a marker, functions are not recorded: looking at 10⁸ parameters took 200 MB of records."""
        with _RecordFunctionFast(OURS):
            here, inside = self.here, self.here.inside
            here.inside = True
            torch._C._autograd._enable_record_function(False)
            try:
                yield
            finally:
                here.inside = inside
                torch._C._autograd._enable_record_function(not inside)

    def stop(self) -> None:
        """End, and give each visit its allocations: ``(bytes, nanoseconds)``, negative for what was freed."""
        visits, self.visits = self.visits, []
        for number, size, when in self._stop():
            visit = visits[number]
            visit.allocations.append((size, when))
            if size > 0:
                visit.effects.made += 1
                visit.effects.made_bytes += size
            else:
                visit.effects.freed += 1
                visit.effects.freed_bytes -= size

    def _stop(self) -> list[tuple[int, int, int]]:
        made, self.profile = self.profile, None
        if made is None:
            return []
        for patch in reversed(self.patches):
            patch.restore()
        with _RecordFunctionFast(END):
            pass
        made.__exit__(None, None, None)
        found: list[tuple[int, int, int]] = []
        segment = -1
        tree = made.kineto_results.experimental_event_tree()
        around = _around_the_end(tree)
        if around:
            self.refused = (
                f"allocations were counted until a loop's turn began in a call of {around}"
            )
        for event in _in_order(tree):
            name = event.name
            if name.startswith(MARK):
                segment = int(name.removeprefix(MARK))
            elif name == "[memory]" and segment >= 0:
                size = event.extra_fields.alloc_size
                if size:
                    found.append((segment, size, event.start_time_ns))
        return found


def _of_functions(original: Callable[..., Any]) -> Callable[..., Any]:
    """Begin a profiler that is told of torch's functions alone."""
    return lambda config, activities: original(config, activities, {RecordScope.FUNCTION})


@contextmanager
def _silence() -> Iterator[None]:
    """The profiler's library writes lines of its own to stderr, unless these stand when it is first used."""
    silent = {"KINETO_LOG_LEVEL": "6", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    missing = [name for name in silent if name not in os.environ]
    os.environ.update({name: silent[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _around_the_end(tree: list[Any]) -> str:
    """The function of torch's that still ran when counting ended; empty where none did."""
    pending = [(event, "") for event in tree]
    while pending:
        event, around = pending.pop()
        if event.name == END:
            return around
        around = around or ("" if event.name == OURS else event.name)
        pending += [(below, around) for below in event.children]
    return ""


def _in_order(tree: list[Any]) -> Iterator[Any]:
    """Every event by the time of its beginning, without what happened inside ours."""
    found: list[Any] = []
    pending = list(tree)
    while pending:
        event = pending.pop()
        if event.name == OURS:
            continue
        found.append(event)
        pending += event.children
    # A marker and what follows it may have the same time; the tree's order decides then.
    yield from sorted(found, key=lambda event: event.start_time_ns)
