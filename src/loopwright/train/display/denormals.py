"""How much of a loop's time went into denormal numbers that its optimizers have come to keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch.optim import Optimizer

from loopwright import denormals

FEWEST = 100
"""Turns in which no average decays so far: 0.5 to the power of 120 does, 0.9 to that of 800."""
WORTH_S = 1.0
"""Seconds of a loop that nobody minds."""


def advice(optimizers: Iterable[Optimizer], phases: Mapping[str, float], turns: int) -> str | None:
    """Return what to say about them, None where they cost little.

    Args:
        optimizers: only what they keep on the CPU is looked at.
        phases: seconds of all that the loop does.
        turns: that these seconds were spent on.
    """
    if turns < FEWEST:
        return None
    step = sum(phases.values()) / turns
    with torch.no_grad():
        slow = [one for optimizer in optimizers for one in denormals.slow(optimizer)]
    lost = sum(one.seconds for one in slow)
    if lost * turns < WORTH_S or not denormals.matters(lost, step):
        return None
    worst = max(slow, key=lambda one: one.seconds)
    return (
        f"{100 * worst.share:.0f} % of the numbers in the optimizer's {worst.name} are denormal (below "
        f"{worst.tiny:.2g}), and this processor multiplies them {worst.slower:.3g} times slower: at least "
        f"{100 * lost / step:.0f} % of a step; --flush-denormal, or torch.set_flush_denormal(True) at the "
        "program's beginning, takes them as zero"
    )
