"""What a hook of the observer costs around a call, beside what its listeners count themselves."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from loopwright.observe.watch import Observer, around

if TYPE_CHECKING:
    from loopwright.events import Event
    from loopwright.explainer.times.owntime import OwnTime

ROUNDS = 41


class _Counts:
    """A listener that takes nothing for itself, as the explanation's own does.

    Args:
        time: what it counts in.
    """

    def __init__(self, time: OwnTime):
        self.time = time

    def before_loss(self, _: Event) -> None:
        """All of it is ours."""
        self.time.spend(self.time.mark())

    after_loss = before_loss


def calibrate(time: OwnTime) -> None:
    """Measure ``time.hook``: the median of calls that do nothing, through a hook of another observer's."""
    time.hook = 0
    hooked = around(Observer([_Counts(time)]), "loss", through_torch=True, depth=1)(_nothing)
    found = []
    for _ in range(ROUNDS):
        alone = time.now()
        _nothing()
        began = time.now()
        hooked()
        found.append(time.now() - began - (began - alone))
    time.hook = max(0, int(median(found)))


def _nothing() -> None:
    """What is called."""
