"""What a loop records in an epoch: its losses' weighted sum, and the values that are logged."""

from __future__ import annotations

from typing import Any

import torch

from loopwright.errors import StateError
from loopwright.train.callsite import user_line
from loopwright.train.folder.history import History, to_host


class Values:
    """Sums over one epoch; logged values wait on their device until ``settle``.

    Attributes:
        waiting: (turn, name, value) of what was logged since.
        means: name -> [sum, count, last] over the epoch.
        latest_turn: of what has settled.
        measured_at: the turn that has run an evaluation. What is logged in such turns alone is a measurement:
            the epoch has its latest, where it has the mean of what is logged in other turns.
        averaged: names of what was logged in other turns too.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str, Any]] = []
        self.means: dict[str, list[float]] = {}
        self.latest_turn = self.measured_at = 0
        self.averaged: set[str] = set()
        self._loss = self._weight = 0.0

    def log(self, turn: int, values: dict[str, Any]) -> None:
        """Keep values for the next visit to the host; computing a metric here does not wait."""
        for name, value in values.items():
            read = getattr(value, "tensor", None) or getattr(value, "compute", None)
            if callable(read):
                value = read()
            if isinstance(value, dict):
                self.log(turn, {f"{name}/{key}": item for key, item in value.items()})
                continue
            self.note(turn, name)
            self.waiting.append((turn, name, one_number(name, value)))

    def note(self, turn: int, name: str) -> None:
        """Note whether a value that is logged now is a measurement."""
        if turn != self.measured_at:
            self.averaged.add(name)

    def latest(self, name: str) -> float | None:
        """Return what the epoch has of a value as far as it has settled; None if it was not logged."""
        mean = self.means.get(name)
        return None if mean is None else mean[0] / mean[1]

    def settle(self, epoch: int, history: History) -> None:
        """Bring what waits to the host and into the history."""
        logged = self._settled()
        if not logged:
            return
        rows: dict[int, dict[str, float]] = {}
        self.latest_turn = logged[-1][0]
        for turn, name, number in logged:
            rows.setdefault(turn, {})[name] = number
            mean = self.means.setdefault(name, [0.0, 0, 0.0])
            if name not in self.averaged:
                mean[:2] = 0.0, 0
            mean[0] += number
            mean[1] += 1
            mean[2] = number
        for turn, values in rows.items():
            history.log(turn, epoch, values)

    def _settled(self) -> list[tuple[int, str, float]]:
        """Return what waited, on the host."""
        if not self.waiting:
            return []
        logged, self.waiting = self.waiting, []
        numbers: list[Any] = to_host([value for _, _, value in logged])
        return [(*one[:2], number) for one, number in zip(logged, numbers, strict=True)]

    def forget_after(self, turn: int) -> None:
        """Forget what waits of later turns."""
        self.waiting = [one for one in self.waiting if one[0] <= turn]

    def add_losses(self, losses: list[float], weights: list[float]) -> float | None:
        """Add turns' losses; returns their weighted mean, None where there are none."""
        total = sum(weights)
        weighted = sum(x * w for x, w in zip(losses, weights, strict=True))
        self._loss += weighted
        self._weight += total
        if not losses:
            return None
        return weighted / total if total else losses[-1]

    def last(self) -> dict[str, float]:
        """Return the value of each name that was logged last."""
        return {name: mean[2] for name, mean in self.means.items() if mean[1]}

    def row(self) -> dict[str, float]:
        """Return the epoch's means, and the latest of what was measured."""
        means = {k: total / count for k, (total, count, _) in self.means.items() if count}
        return {"train_loss": self._loss / self._weight, **means} if self._weight else means

    def clear(self) -> None:
        """Begin an epoch."""
        self._loss = self._weight = 0.0
        self.means = {}
        self.averaged = set()

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch's sums."""
        means = {name: list(mean) for name, mean in self.means.items()}
        return {
            "loss_sum": self._loss, "weight_sum": self._weight, "means": means,
            "averaged": sorted(self.averaged),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self._loss, self._weight = state["loss_sum"], state["weight_sum"]
        self.means = {name: list(mean) for name, mean in state["means"].items()}
        self.averaged = set(state.get("averaged", self.means))  # none in states of before


def one_number(name: str, value: Any) -> Any:
    """Return a logged value as a float, or as a 0-d tensor where reading it would wait."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.numel() != 1:
            raise StateError(
                f"step.log({name}=…) takes one number, got shape {tuple(value.shape)}",
                slug="log-not-a-number", where=user_line(),
            )  # fmt: skip
        return value.clone() if value.device.type != "cpu" else float(value)
    if value is None or isinstance(value, str):
        raise StateError(
            f"step.log({name}=…) takes a number, got {value!r}",
            slug="log-not-a-number", where=user_line(),
        )  # fmt: skip
    return float(value)
