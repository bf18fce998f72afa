"""Losses and logged values over all ranks: exchanged where all ranks look, never at each turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from loopwright.parallel.world import World
from loopwright.train.folder.history import History, to_host
from loopwright.train.values import Values, one_number


class ValuesOverRanks(Values):
    """Logged values with the weight that each rank's has.

    Sums and means of ours bring their own; a number that was logged after an evaluation counts for the
    samples that this rank has evaluated, any other one once.

    Attributes:
        weight: of the numbers that are logged in this turn.
        heard: what every rank has ``taken``, where it was exchanged together with something else.
    """

    def __init__(self, world: World):
        super().__init__()
        self.weight = 1.0
        self.heard: list[Any] | None = None
        self._world = world

    def log(self, turn: int, values: dict[str, Any]) -> None:
        """Keep values for the next time that all ranks look."""
        for name, value in values.items():
            parts = getattr(value, "parts", None)
            if callable(parts):
                self.note(turn, name)
                self.waiting.append((turn, name, parts()))
                continue
            read = getattr(value, "compute", None)
            if callable(read):
                value = read()  # torchmetrics' own goes over all ranks
            if isinstance(value, dict):
                self.log(turn, {f"{name}/{key}": item for key, item in value.items()})
                continue
            self.note(turn, name)
            self.waiting.append((turn, name, ("number", one_number(name, value), self.weight)))

    def taken(self) -> list[Any]:
        """Take what waits, on the host, for the other ranks."""
        logged, self.waiting = self.waiting, []
        numbers = to_host([part for _, _, (_, *parts) in logged for part in parts])
        return [
            [turn, name, kind, numbers[2 * i], numbers[2 * i + 1]]
            for i, (turn, name, (kind, _, _)) in enumerate(logged)
        ]

    def _settled(self) -> list[tuple[int, str, float]]:
        heard, self.heard = self.heard, None
        if heard is None:
            heard = self._world.exchange(self.taken())
        sums: dict[tuple[int, str], list[Any]] = {}
        for told in heard:
            for turn, name, kind, total, weight in told:
                one = sums.setdefault((turn, name), [kind, 0.0, 0.0, total])
                if kind != "number" or weight:
                    one[1] += total * weight if kind == "number" else total
                one[2] += weight
        return [
            (turn, name, _value(*one))
            for (turn, name), one in sorted(sums.items(), key=lambda item: item[0][0])
        ]


def _value(kind: str, total: float, weight: float, otherwise: float) -> float:
    if kind == "sum":
        return total
    if not weight:
        return otherwise if kind == "number" else math.nan
    return total / weight


def losses_of(history: History) -> list[float]:
    """Return this rank's losses that wait, then their weights, then which of them there are."""
    losses: list[Any] = to_host([loss for loss, *_ in history.waiting])
    weights: list[Any] = to_host([weight for _, weight, *_ in history.waiting])
    known = [loss is not None for loss in losses]
    return [
        *(loss if there else 0.0 for loss, there in zip(losses, known, strict=True)),
        *(weight if there else 0.0 for weight, there in zip(weights, known, strict=True)),
        *known,
    ]


def merge_losses(history: History, told: list[Sequence[float]]) -> None:
    """Make the losses that wait those of all ranks: means with the ranks' weights."""
    turns = len(history.waiting)
    for turn, (loss, _, lr, norm) in enumerate(history.waiting):
        known = [(one[turn], one[turns + turn]) for one in told if one[2 * turns + turn]]
        total = math.fsum(weight for _, weight in known)
        if known:
            loss = (
                math.fsum(loss * weight for loss, weight in known) / total if total else known[0][0]
            )
        history.waiting[turn] = (loss, total, lr, norm)
