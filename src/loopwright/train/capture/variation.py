"""Steps that have other bits each time: how far a replayed one may be from the step as it stands.

On a GPU some kernels add up in the order in which their threads come (convolutions of cuDNN, the backward
pass of attention). No replay can have the bits of such a step, and neither has the step itself. Whether it is
one of them, two replays from the same state tell: there is no Python in between that could have decided
otherwise. Then a replay may be ten times as far from the step as it stands as replays are from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from loopwright.train.capture.state import other_bits

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
        apart = _distances(pairs, other_bits(pairs))
        self.is_there = bool(apart)
        self._apart = apart

    def excuses(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> str | None:
        """Say where a replay is too far from the step as it stands; None where it is near enough.

        Args:
            pairs: what the replay came to and what the step did, in the order of the two replays.
        """
        away = _distances(pairs, other_bits(pairs))
        sizes = _norms({number: pairs[number][1] for number in away})
        for number, distance in away.items():
            plain = pairs[number][1]
            what = f"tensor {number} of shape {tuple(plain.shape)}"
            if not plain.is_floating_point():
                return f"{what} has other whole numbers"
            allowed = FARTHER * self._apart.get(number, 0.0) + ROUNDING * sizes[number]
            if not distance <= allowed:
                return (
                    f"{what} is {distance:.3g} away, where two replays that differ allow "
                    f"{allowed:.3g}"
                )
        return None


def _distances(pairs: Sequence[tuple[Tensor, Tensor]], unlike: Sequence[bool]) -> dict[int, float]:
    """Return by number how far those pairs are apart that are not alike."""
    apart: dict[int, Tensor] = {}
    for number in (number for number, other in enumerate(unlike) if other):
        one, other = (tensor.detach() for tensor in pairs[number])
        whole = not one.is_floating_point()
        apart[number] = one.float() - other.float() if whole else one - other
    return _norms(apart)


def _norms(tensors: Mapping[int, Tensor]) -> dict[int, float]:
    """Return norms by number; the host waits once for a device."""
    norms = {
        number: torch.linalg.vector_norm(tensor.detach().float(), dtype=torch.float64)
        for number, tensor in tensors.items()
    }
    by_device: dict[torch.device, list[int]] = {}
    for number, norm in norms.items():
        by_device.setdefault(norm.device, []).append(number)
    found: dict[int, float] = {}
    for numbers in by_device.values():
        values = torch.stack([norms[number] for number in numbers]).tolist()
        found |= dict(zip(numbers, values, strict=True))
    return {number: found[number] for number in norms}
