"""Steps that have other bits each time: how far a replayed one may be from the step as it stands.

On a GPU some kernels add up in the order in which their threads come (convolutions of cuDNN, the backward
pass of attention). No replay can have the bits of such a step, and neither has the step itself. Whether it is
one of them, two replays from the same state tell: there is no Python in between that could have decided
otherwise. Then a replay may be ten times as far from the step as it stands as replays are from each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loopwright.train.capture.state import same_bits

FARTHER = 10.0
"""Times the distance between two replays: one of few numbers is now and then by chance small."""
ROUNDING = 1e-6
"""Share of a tensor's norm that is rounding in any case."""


class Variation:
    """How far two replays of one step are from each other.

    Args:
        pairs: what both came to: weights, buffers, an optimizer's state, the loss.

    Attributes:
        is_there: whether anything has other bits.
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]):
        self.is_there = not all(same_bits(one, other) for one, other in pairs)
        self._apart = [_apart(one, other) for one, other in pairs]

    def excuses(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> str | None:
        """Say where a replay is too far from the step as it stands; None where it is near enough.

        Args:
            pairs: what the replay came to and what the step did, in the order of the two replays.
        """
        for number, ((ours, plain), apart) in enumerate(zip(pairs, self._apart, strict=True)):
            if same_bits(ours, plain):
                continue
            what = f"tensor {number} of shape {tuple(plain.shape)}"
            if not plain.is_floating_point():
                return f"{what} has other whole numbers"
            allowed = FARTHER * apart + ROUNDING * _norm(plain)
            if not (away := _apart(ours, plain)) <= allowed:
                return (
                    f"{what} is {away:.3g} away, where two replays that differ allow {allowed:.3g}"
                )
        return None


def _apart(one: Tensor, other: Tensor) -> float:
    return 0.0 if same_bits(one, other) else _norm(one.detach() - other.detach())


def _norm(tensor: Tensor) -> float:
    return torch.linalg.vector_norm(tensor.detach().float(), dtype=torch.float64).item()
