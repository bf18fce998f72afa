"""How long a loop runs: epochs, steps, minutes, samples, tokens; the first one that is reached ends it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from loopwright.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """At least one is set. ``steps`` counts turns of the loop, whatever they do."""

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    samples: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            raise UsageError(
                "a loop needs an end",
                slug="no-limit",
                hint="run.loop(loader, epochs=5), or steps=, minutes=, samples=, tokens=",
            )
        for name, value in given.items():
            whole = name != "minutes"
            good = (
                isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
                and math.isfinite(value) and (not whole or isinstance(value, int))
            )  # fmt: skip
            if not good:
                kind = "a whole number" if whole else "a number"
                raise UsageError(
                    f"{name} must be {kind} above 0, got {value!r}", slug="limit-out-of-range"
                )

    def describe(self) -> dict[str, Any]:
        """Return the limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def reached(self, epochs: int, turns: int, samples: int, tokens: int) -> bool:
        """Return whether what was done reaches one of the limits; time is not looked at."""
        return (
            (self.epochs is not None and epochs >= self.epochs)
            or (self.steps is not None and turns >= self.steps)
            or (self.samples is not None and samples >= self.samples)
            or (self.tokens is not None and tokens >= self.tokens)
        )

    def turns(self, batches: int | None) -> int | None:
        """Return the number of turns where it is known beforehand, for epochs of ``batches``."""
        if self.minutes is not None or self.samples is not None or self.tokens is not None:
            return None
        if self.epochs is None:
            return self.steps
        if batches is None:
            return None
        turns = self.epochs * batches
        return turns if self.steps is None else min(turns, self.steps)

    def updates(self, batches: int | None, accumulate: int) -> int | None:
        """Return the number of updates where it is known; windows close at an epoch's end."""
        turns = self.turns(batches)
        if turns is None or accumulate == 1:
            return turns
        if batches is None:
            return math.ceil(turns / accumulate)
        whole, rest = divmod(turns, batches)
        return whole * math.ceil(batches / accumulate) + math.ceil(rest / accumulate)

    def whole_epochs(self, batches: int | None) -> int | None:
        """Return the number of epochs where it is known; a last one that is cut short counts."""
        turns = self.turns(batches)
        if turns is None or batches is None:
            return self.epochs
        return math.ceil(turns / batches)
