"""The best weights of a run: kept in memory, written before the next checkpoint, loaded back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from loopwright.errors import CheckpointError

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run


class BestWeights:
    """Copies of the weights (the averaged ones with an EMA) at the best value of something.

    They are written no later than the checkpoint that says so, and not at once: an epoch of a few
    milliseconds would wait for the disk.
    """

    def __init__(self, run: Run):
        self._run = run
        self._weights: dict[str, torch.Tensor] | None = None
        self._unwritten = False

    def offer(self, name: str, value: float, mode: str, loop: Loop) -> bool:
        """Keep the weights if ``value`` is better than every one before; nan never is."""
        before = self._run.best.get(name, {}).get("value")
        worse = before is not None and not (value > before if mode == "max" else value < before)
        if worse or math.isnan(value):
            return False
        self._run.best[name] = {"value": value, "turn": loop.turn + 1, "epoch": loop.epoch + 1}
        self._weights = self._run.weights(averaged=True)
        self._unwritten = True
        return True

    def write(self) -> None:
        """Write ``best.safetensors`` if it is behind."""
        if self._unwritten and self._run.files is not None and self._weights is not None:
            self._run.files.write_best(self._weights)
            self._unwritten = False

    def load(self) -> bool:
        """Load them into the models; False where there are none."""
        if self._weights is None and self._run.files is not None:
            self._weights = self._run.files.read_best()
        if self._weights is None and self._run.best:
            raise CheckpointError(
                f"best.safetensors is gone, which held the weights of the best {next(iter(self._run.best))}",
                slug="no-best-weights", where=str(self._run.folder),
                hint="bring it back from a copy, or do without load_best()",
            )  # fmt: skip
        if self._weights is None:
            return False
        self._run.load_weights(self._weights)
        return True
