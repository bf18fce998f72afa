"""Numbers that a program reads out of tensors: ``loss.item()``, ``float(loss)``, ``f"{loss:.4f}"``."""

from __future__ import annotations

from typing import Any

from loopwright.events import Event
from loopwright.explainer.effects import values


def begins(event: Event, name: str) -> dict[str, Any]:
    """What is read, by the program's name for it."""
    one = event.subject
    return {
        "device": str(one.device),
        "shape": list(one.shape),
        "name": name,
        "by_library": event.site.by_library,
    }


def ends(event: Event) -> dict[str, Any]:
    """The number; of a text the one that was formatted, which the host has waited for by then."""
    if isinstance(event.result, bool):
        return {"value": float(event.result), "truth": True}
    if isinstance(event.result, (int, float)):
        return {"value": float(event.result)}
    if event.kind == "format":
        with values.quiet():
            return {"value": float(event.subject.detach())}
    return {}
