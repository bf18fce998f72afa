"""When a replayed step is compared with the step as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopwright.train.step import Step

PROOFS = 3
"""Turns that are run both ways before a shape is replayed."""
FIRST_AGAIN = 8
"""Replays after which it is run both ways again; then after twice as many, and so on."""
AN_EPOCHS = 500
"""Replays for each time that it is run both ways at an epoch's beginning, where a program may change
something: such a turn takes ten times as long as a replay. In the first three epochs it always is."""


class Proofs:
    """The comparisons of one batch shape.

    Attributes:
        replays: turns that were replayed.
    """

    def __init__(self) -> None:
        self.replays = 0
        self._left = PROOFS
        self._again = FIRST_AGAIN
        self._epoch = -1
        self._at_epochs = 0
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
        moved = {i for i, (a, b) in enumerate(zip(numbers, self._numbers, strict=True)) if a != b}
        self._numbers = numbers
        due = (
            self._left > 0 or self.replays >= self._again or not moved <= self._moving
        )  # fmt: skip
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            few = self._at_epochs < 3 or self.replays >= AN_EPOCHS * self._at_epochs
            self._at_epochs += few
            due = due or few
        self._moving |= moved
        return due

    def passed(self) -> None:
        """Note that both ways gave the same."""
        self._left = max(0, self._left - 1)
        if self.replays >= self._again:
            self._again *= 2

    def since(self) -> str:
        """Return words for after how many replays a difference was found."""
        return f" (after {self.replays} replayed turns)" if self.replays else ""
