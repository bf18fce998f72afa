"""How much of a loop's time went into waiting for data, and how many workers would cure it."""

from __future__ import annotations

import math
from collections.abc import Mapping

SHARE = 0.02
"""Share of the time above which it is said."""
WORTH_S = 0.001
"""Seconds of waiting for a batch below which a worker costs more than it saves: handing a batch from one
process to another takes 0.1 to 1 ms, and for data in memory halves the speed (0.55 of it measured)."""
FEWEST = 20
"""Turns below which starting workers and opening files hide the rest."""


def advice(phases: Mapping[str, float], turns: int, workers: int | None) -> str | None:
    """Return what to say about the waiting, None where there is little.

    Args:
        phases: seconds of ``fetch`` and of all that the loop does besides.
        turns: that these seconds were spent on.
        workers: the loader's ``num_workers``; None for data that have no such thing.

    >>> advice({"fetch": 3.0, "forward": 1.0}, turns=1000, workers=0)  # doctest: +ELLIPSIS
    'the loop waited for data in 75 % of its time, 3.0 ms a batch: num_workers=4 would make ...'
    """
    total = sum(phases.values())
    wait = phases["fetch"] / max(turns, 1)
    if turns < FEWEST or wait < WORTH_S or phases["fetch"] <= SHARE * total:
        return None
    text = (
        f"the loop waited for data in {100 * phases['fetch'] / total:.0f} % of its time, "
        f"{wait * 1e3:.1f} ms a batch"
    )
    work = (total - phases["fetch"]) / turns
    if workers is None or work <= 0:
        return text
    # Each worker makes a batch in the time that all of them together need for `workers` batches.
    making = wait if workers == 0 else workers * (wait + work)
    needed = max(workers + 1, math.ceil(making / work) + (workers == 0))
    return f"{text}: num_workers={needed} would make them ready meanwhile"
