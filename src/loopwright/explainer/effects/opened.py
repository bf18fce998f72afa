"""A call of an event's that has not returned yet."""

from __future__ import annotations

from typing import Any

from loopwright.explainer.effects import device


class Open:
    """A call that has not returned yet."""

    __slots__ = ("began", "facts", "inside", "kept", "kind", "loss", "paused", "span")

    def __init__(self, kind: str):
        self.kind = kind
        self.loss = False
        """A loss was computed in it."""
        self.began = 0
        """In the program's own time."""
        self.inside = 0
        """Nanoseconds of events in it."""
        self.facts: dict[str, Any] = {}
        self.kept: Any = None
        self.span: device.Span | None = None
        self.paused = False
        """Statements are not followed in it."""
