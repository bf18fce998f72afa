"""Which statement allocated and freed how many bytes, from torch's own profiler.

The profiler's record callbacks change no kernel and no value. A marker at every boundary between statements
stands in the same stream as the allocations; what we allocate ourselves lies inside a marker of its own and
is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._C._profiler import _RecordFunctionFast

OURS = "loopwright at work"
MARK = "loopwright segment "


class Memory:
    """Allocations of one stretch of a program, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self.profile: Any = None
        self.refused = ""
        self.visits: list[Any] = []

    @property
    def running(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self.profile is not None

    def start(self) -> None:
        """Begin, unless the program profiles itself."""
        if self.running or self.refused:
            return
        if torch._C._autograd._profiler_enabled():
            self.refused = "the program runs a profiler of its own, so allocations were not counted"
            return
        from torch.autograd.profiler import profile

        made = profile(use_cpu=True, profile_memory=True, use_device="cuda" if _cuda() else None)
        with _silence():
            made.__enter__()
        self.profile = made

    def mark(self, visit: Any) -> None:
        """What is allocated from here on belongs to ``visit``."""
        if self.profile is not None:
            self.visits.append(visit)
            with _RecordFunctionFast(f"{MARK}{len(self.visits) - 1}"):
                pass

    def ours(self) -> Any:
        """A context whose allocations are ours."""
        return _RecordFunctionFast(OURS) if self.profile is not None else nullcontext()

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
        made.__exit__(None, None, None)
        found: list[tuple[int, int, int]] = []
        segment = -1
        for event in _in_order(made.kineto_results.experimental_event_tree()):
            name = event.name
            if name.startswith(MARK):
                segment = int(name.removeprefix(MARK))
            elif name == "[memory]" and segment >= 0:
                size = event.extra_fields.alloc_size
                if size:
                    found.append((segment, size, event.start_time_ns))
        return found


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


def _cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
