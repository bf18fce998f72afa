"""What a hook costs is measured, and is nothing where time stands still."""

from __future__ import annotations

import time

from loopwright.explainer.times import hooked
from loopwright.explainer.times.owntime import OwnTime
from loopwright.observe.watch import Observer


def test_the_cost_of_a_hook():
    """Some microseconds, without installing anything."""
    own = OwnTime(time.perf_counter_ns)
    hooked.calibrate(own)
    assert 100 < own.hook < 1_000_000
    assert Observer.active is None
    still = OwnTime(lambda: 0)
    hooked.calibrate(still)
    assert still.hook == 0
