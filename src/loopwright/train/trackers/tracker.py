"""What every tracker shares: when it starts, what it gets, how it ends."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Tracker", "flat"]


class Tracker(ABC):
    """One service that curves are sent to.

    It is opened when the first loop begins, so that a start that fails opens nothing. Values that a run
    logs at most twice a second go out under their own names, those of an epoch's end under ``epoch/``,
    results of the whole run under ``final/``; the step is always the turn, counted over the whole run.

    Write ``open``, ``send`` and ``close``, then ``lw.Run(..., log=[MyTracker().attach])``.
    """

    name = ""

    def __init__(self) -> None:
        self._opened = False
        self._turn = 0

    @abstractmethod
    def open(self, run: Any, turn: int) -> None:
        """Begin, or continue after ``turn`` turns: what was sent of later ones is void."""

    @abstractmethod
    def send(self, values: dict[str, float], turn: int) -> None:
        """Send values of one moment."""

    @abstractmethod
    def close(self, kind: str) -> None:
        """End; ``kind`` is the outcome's: finished, stopped, interrupted or failed."""

    def attach(self, run: Any) -> None:
        """Register with a run."""
        run.on("loop_begin", self._begin)
        run.on("log", lambda event: self._pass_on(event, ""))
        run.on("epoch_end", lambda event: self._pass_on(event, "epoch/"))
        run.on("close", self._end)

    def _begin(self, event: Any) -> None:
        if not self._opened:
            self._turn = turn_of(event)
            self.open(event.run, self._turn)
            self._opened = True

    def _pass_on(self, event: Any, prefix: str) -> None:
        self._turn = turn_of(event)
        self.send(flat(event.values, prefix), self._turn)

    def _end(self, event: Any) -> None:
        if not self._opened:
            return
        self._opened = False
        results = flat(getattr(event.run, "totals", {}), "final/")
        if results:
            self.send(results, self._turn)  # no loop runs any more, so no turn counts
        self.close(event.run.outcome.kind)

    def remembered(self, run: Any) -> str | None:
        """Return the service's own name of this run from before it was resumed."""
        file = _file(run)
        if file is None or not file.exists():
            return None
        return json.loads(file.read_text(encoding="utf-8")).get(self.name)

    def remember(self, run: Any, identity: str) -> None:
        """Keep the service's own name of this run in the run's folder, for when it resumes."""
        file = _file(run)
        if file is not None:
            known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            file.write_text(json.dumps({**known, self.name: identity}), encoding="utf-8")


def turn_of(event: Any) -> int:
    """Return the event's turn, counted over the whole run."""
    return getattr(event.run.active, "base", 0) + event.turn


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return numbers by name; a dict inside gives ``name/key``.

    >>> flat({"loss": 1, "lr": {"generator": 0.1}}, "epoch/")
    {'epoch/loss': 1.0, 'epoch/lr/generator': 0.1}
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}/"))
        else:
            found[f"{prefix}{name}"] = float(value)
    return found


def settings_of(run: Any) -> dict[str, Any]:
    """Return what was asked for: the recipe's parameters, and the run's settings."""
    return dict(getattr(run, "settings", None) or {})


def _file(run: Any) -> Path | None:
    folder = getattr(run, "folder", None)
    return None if folder is None else Path(folder) / "trackers.json"
