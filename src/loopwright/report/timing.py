"""Where the time of a step went, in the order of the step."""

from __future__ import annotations

from dataclasses import dataclass

from loopwright.events import PHASES, RunRecord
from loopwright.report.formats import to_float

MEANING = {
    "fetch": "waiting for the next batch",
    "transfer": "moving the batch to the device",
    "zero_grad": "clearing the gradients",
    "forward": "the model's forward pass",
    "loss": "the criterion",
    "backward": "the gradients",
    "step": "the optimizer's update",
    "item": "reading numbers back",
}


@dataclass(slots=True)
class PhaseView:
    """One phase with its share of all step time; ``color`` is its place in the step."""

    name: str
    seconds: float
    share: float
    per_turn: float | None
    meaning: str
    color: int


def phases(record: RunRecord) -> list[PhaseView]:
    """The phases that took any time, forward and loss as one where they were not told apart."""
    turns = to_float(record.totals.get("turns"))
    timed = [(p.name, to_float(p.seconds)) for p in record.phases]
    timed = [(name, seconds) for name, seconds in timed if 0 < seconds < 1e12]
    total = sum(seconds for _, seconds in timed)
    views = []
    for name, seconds in timed:
        parts = [part for part in PHASES if part in name.replace("+", " ").split()]
        views.append(
            PhaseView(
                name,
                seconds,
                seconds / total,
                seconds / turns if turns > 0 else None,
                " and ".join(MEANING[part] for part in parts),
                PHASES.index(parts[0]) if parts else len(PHASES),
            )
        )
    return sorted(views, key=lambda view: view.color)
