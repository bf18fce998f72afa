"""A window of a run under ``torch.profiler``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopwright.errors import UsageError

__all__ = ["profile"]


def profile(
    turns: str | range = "10:20", out: str | Path | None = None, *, memory: bool = False
) -> Callable[[Any], None]:
    """Return a callback that records some turns as a Chrome trace: ``callbacks=[lw.profile("10:20")]``.

    The trace opens in ``chrome://tracing`` or Perfetto. Each turn is one ``turn N`` span, from update to
    update. Recorded turns are slower; a run that ends within the window writes what it has.

    Args:
        turns: ``"first:last"``, counted from 0 in their loop, the last left out; or a range. With
            accumulation the window begins and ends at an update.
        out: the file; by default ``trace-10-20.json`` in the run's folder, or in the working folder of
            a run without one.
        memory: record allocations, too.

    Raises:
        UsageError: the window is not one.
    """
    window = _window(turns)

    def register(run: Any) -> None:
        name = f"trace-{window.start}-{window.stop}.json"
        file = Path(out) if out is not None else Path(getattr(run, "folder", None) or ".") / name
        _Window(window, file, memory).attach(run)

    return register


def _window(turns: str | range) -> range:
    found = re.fullmatch(r"(\d+):(\d+)", turns) if isinstance(turns, str) else None
    window = range(int(found[1]), int(found[2])) if found else turns
    if not isinstance(window, range) or window.step != 1 or not len(window):
        raise UsageError(
            f"{turns!r} is no window of turns.",
            slug="profile-window",
            hint='write profile("10:20") for the turns 10 to 19',
        )
    return window


class _Window:
    """Starts the profiler before the first turn of the window and writes after the last's update."""

    def __init__(self, turns: range, file: Path, memory: bool) -> None:
        self.turns = turns
        self.file = file
        self.memory = memory
        self._profiler: Any = None
        self._span: Any = None
        self._turn = -1

    def attach(self, run: Any) -> None:
        run.on("loop_begin", lambda event: self._begins(event.turn))
        # No moment fires before a turn; it begins where the update of the one before is done.
        run.on("update", lambda event: self._begins(event.turn + 1))
        run.on("loop_end", lambda _: self._write())
        run.on("close", lambda _: self._write())

    def _begins(self, turn: int) -> None:
        if turn == self._turn:  # a second update in the same turn
            return
        self._turn = turn
        if turn >= self.turns.stop:
            self._write()
        elif turn >= self.turns.start:
            self._record(f"turn {turn}")

    def _record(self, name: str) -> None:
        import torch.profiler

        if self._profiler is None:
            kinds = torch.profiler.supported_activities()
            self._profiler = torch.profiler.profile(activities=kinds, profile_memory=self.memory)
            self._profiler.start()
        self._leave()
        self._span = torch.profiler.record_function(name)
        self._span.__enter__()

    def _leave(self) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
            self._span = None

    def _write(self) -> None:
        if self._profiler is None:
            return
        self._leave()
        self._profiler.stop()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self.file))
        self._profiler = None
