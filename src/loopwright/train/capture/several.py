"""Several turns in one call; the first time they are made one by one as well, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from loopwright.train.capture.state import State

if TYPE_CHECKING:
    from torch import Tensor

    from loopwright.train.run import Run

VARIES = 0.05
"""Share by which a turn's loss or norm may differ where the step itself has other bits each time: up to 64
turns after a difference in the last bits."""

Batch = list["Tensor"]
Row = list[float]
"""The numbers of one update."""


class Several:
    """Makes turns of one batch shape, up to one that is not finite.

    Args:
        run: whose.
        at_once: trains on batches, an update for each row of numbers; returns the losses and norms of the
            turns before the first that is not finite. What it has done after that is put back by the caller.
        one: trains on one batch; returns its loss and norm.
        varies: whether the step itself has other bits each time it is run.

    Attributes:
        works: whether turns can be made so.
    """

    def __init__(
        self,
        run: Run,
        at_once: Callable[[Sequence[Batch], Sequence[Row]], tuple[list[float], list[float]]],
        one: Callable[[Batch, Row], tuple[float, float]],
        varies: Callable[[], bool] = lambda: False,
    ):
        self.works = True
        self._run = run
        self._at_once = at_once
        self._one = one
        self._varies = varies
        self._proven = False

    def __call__(
        self, batches: Sequence[Batch], rows: Sequence[Row]
    ) -> tuple[list[float], list[float]]:
        """Make turns; returns the losses and norms of those before the first that is not finite.

        Args:
            batches: the tensors of each.
            rows: the numbers of each update.
        """
        if self._proven:
            return self._at_once(batches, rows)
        before = State(self._run)
        losses, norms = self._at_once(batches, rows)
        if len(losses) < len(rows):  # they are compared another time
            return losses, norms
        after = State(self._run)
        before.put_back()
        singly = [self._one(batch, row) for batch, row in zip(batches, rows, strict=True)]
        at_once = list(zip(losses, norms, strict=True))
        if self._varies():
            self._proven = all(map(_near, chain(*singly), chain(*at_once)))
        else:
            self._proven = singly == at_once and after.differs() is None
        if self._proven:
            return losses, norms
        self.works = False
        self._run.note("turns are replayed one at a time: several in one call had other bits")
        return [], []


def _near(one: float, other: float) -> bool:
    """Whether two numbers differ by what a step's own variation may have grown to."""
    return abs(one - other) <= VARIES * abs(one)
