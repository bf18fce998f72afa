"""When a replayed step is compared with the step as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.train.capture.step import CapturedStep
    from loopwright.train.step import Step

PROOFS = 3
"""Turns that are run both ways before a shape is replayed."""
FIRST_AGAIN = 8
"""Replays after which it is run both ways again; then after twice as many, and so on."""


class Proofs:
    """The comparisons of one batch shape.

    Args:
        owner: of all shapes. At an epoch's beginning, where programs change what they do, one of them is
            compared: all of them are recordings of the same function. (Digits have 57 turns an epoch, and
            comparing the short last batch each time as well took 30 µs a turn.)

    Attributes:
        replays: turns that were replayed.
    """

    def __init__(self, owner: CapturedStep):
        self.replays = 0
        self._owner = owner
        self._left = PROOFS
        self._again = FIRST_AGAIN
        self._numbers: list[Any] = []
        self._moving: set[int] = set()

    def begin(self, numbers: list[Any]) -> None:
        """Begin anew: the graphs are new ones.

        Args:
            numbers: what the optimizer's update was recorded with.
        """
        self._left = PROOFS
        self._numbers = numbers

    def due(self, step: Step, numbers: list[Any]) -> bool:
        """Whether this turn is to be run both ways.

        Args:
            numbers: of the optimizer's coming update; one that changes for the first time is a reason.
        """
        moved = set() if numbers == self._numbers else self._moved(numbers, self._numbers)
        self._numbers = numbers
        due = (
            self._left > 0 or self.replays >= self._again or self._owner.asks(step.epoch)
            or not moved <= self._moving
        )  # fmt: skip
        self._moving |= moved
        return due

    def room(self, epoch: int) -> int:
        """Return how many turns of an epoch may be replayed before one is to be run both ways."""
        if self._left > 0 or self._owner.asks(epoch):
            return 0
        return max(0, self._again - self.replays)

    def foresees(self, numbers: list[Any], before: list[Any] | None = None) -> bool:
        """Whether an update with these numbers is no reason to run its turn both ways.

        Args:
            before: the numbers of the update before it; None for those that were seen last.
        """
        before = self._numbers if before is None else before
        return numbers == before or self._moved(numbers, before) <= self._moving

    def replayed(self, rows: Sequence[list[Any]]) -> None:
        """Note that turns with these numbers were replayed."""
        self.replays += len(rows)
        self._numbers = rows[-1]

    @staticmethod
    def _moved(numbers: list[Any], before: list[Any]) -> set[int]:
        return {i for i, (a, b) in enumerate(zip(numbers, before, strict=True)) if a != b}

    def passed(self, step: Step) -> None:
        """Note that both ways gave the same."""
        self._owner.epoch_proven = step.epoch
        self._left = max(0, self._left - 1)
        if self.replays >= self._again:
            self._again *= 2

    def since(self) -> str:
        """Return words for after how many replays a difference was found."""
        return f" (after {self.replays} replayed turns)" if self.replays else ""
