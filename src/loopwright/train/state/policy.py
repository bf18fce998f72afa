"""When checkpoints are written and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass

from loopwright.errors import UsageError

APART = 1.0
"""Seconds between the checkpoints of short epochs. What the loop and the writer take for one, 15 ms on a
small model, is two thirds of what it costs: both run slower while they share the interpreter's lock."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """When a run saves itself, and how many checkpoints stay.

    One is always written before the first turn, when a loop ends, and on Ctrl-C and SIGTERM.

    Args:
        every_epochs: at each n-th epoch's end; None for not at epoch ends.
        every_steps: after each n-th turn.
        every_minutes: after the turn at which this much time has gone by.
        keep: newest checkpoints that stay (at least 2).
        most: share of the run's time that periodic checkpoints may take, what is written in the
            background included. An epoch's end is passed over where saving there would take more, and
            within a second of the checkpoint before (unless ``most`` is 1): short epochs are not slowed
            down by the disk.
            ``every_steps`` and ``every_minutes`` are never passed over.

    Example:
        >>> Checkpoint(every_steps=500, keep=3).keep
        3
    """

    every_epochs: int | None = 1
    every_steps: int | None = None
    every_minutes: float | None = None
    keep: int = 2
    most: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("every_epochs", 1), ("every_steps", 1), ("keep", 2)):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < least
            ):
                raise UsageError(
                    f"Checkpoint({name}=…) is a whole number from {least}, got {value!r}",
                    slug="checkpoint-policy",
                )
        if self.every_minutes is not None and not self.every_minutes > 0:
            raise UsageError(
                f"Checkpoint(every_minutes=…) is above 0, got {self.every_minutes!r}",
                slug="checkpoint-policy",
            )
        if not 0 < self.most <= 1:
            raise UsageError(
                f"Checkpoint(most=…) is a share above 0 and at most 1, got {self.most!r}",
                slug="checkpoint-policy",
            )


def allows(policy: Checkpoint, cost: float, seconds: float) -> bool:
    """Whether an epoch's end may be saved, so many seconds after the last checkpoint, at that cost."""
    return cost <= policy.most * seconds and (seconds >= APART or policy.most == 1)
