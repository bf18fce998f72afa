"""Steps that have other bits each time: how far a replayed one may be from the step as it stands.

On a GPU some kernels add up in the order in which their threads come (convolutions of cuDNN, the backward
pass of attention). No replay can have the bits of such a step, and neither has the step itself. Whether it is
one of them, two replays from the same state tell: there is no Python in between that could have decided
otherwise. Then a replay may be no farther from the step as it stands than replays are from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from loopwright.train.capture.state import same_bits

if TYPE_CHECKING:
    from loopwright.train.capture.state import State

FARTHER = 10.0
"""Times the distance between two runs as they stand: one of few numbers is now and then by chance small."""
ROUNDING = 1e-6
"""Share of a tensor's norm that is rounding in any case."""


def beyond(replayed: State, again: State, expected: State) -> str | None:
    """Say where a replay is too far from the step as it stands; None where it is as near as another one.

    Args:
        replayed: after the step was replayed.
        again: after it was replayed from the same state once more.
        expected: after it was run as it stands.
    """
    for number, (one, other, plain) in enumerate(
        zip(replayed.copies(), again.copies(), expected.copies(), strict=True)
    ):
        if same_bits(one, plain):
            continue
        if not plain.is_floating_point():
            return f"tensor {number} of shape {tuple(plain.shape)} has other whole numbers"
        allowed = FARTHER * _apart(one, other) + ROUNDING * plain.double().norm().item()
        if not (apart := _apart(one, plain)) <= allowed:
            return (
                f"tensor {number} of shape {tuple(plain.shape)} is {apart:.3g} away, and two replays are at "
                f"most {allowed:.3g} from each other"
            )
    return None


def differ(one: State, other: State) -> bool:
    """Whether two replays have other bits."""
    return not all(map(same_bits, one.copies(), other.copies()))


def _apart(one: Tensor, other: Tensor) -> float:
    return (one.double() - other.double()).norm().item()
