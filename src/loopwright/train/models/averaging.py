"""When a run's average is taken, and when it stands in the models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loopwright.train.models.ema import EMA


class Averaging:
    """Takes the average once a turn, however many optimizers stepped in it; nothing without an EMA."""

    def __init__(self, ema: EMA | None):
        self._ema = ema
        self._due = self._off = False

    def is_due(self) -> None:
        """Note an update, which the average has to see."""
        self._due = self._ema is not None

    def settle(self) -> None:
        """Let the average see the last update."""
        if self._due and self._ema is not None:
            self._due = False
            self._ema.update()

    @contextlib.contextmanager
    def in_models(self) -> Iterator[None]:
        """Have the averaged weights in the models for the length of a block."""
        self.settle()
        if self._ema is None or not self._ema.started or self._off:
            yield
            return
        with self._ema.swapped():
            yield

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Leave the weights in the models as they are, also in ``evaluate``, for a block."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before
