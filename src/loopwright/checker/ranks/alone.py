"""Ranks of one training that nothing joins: each trains a model of its own, on its share of the data.

Proven by what all ranks kept account of: the same optimizers over models of the same shapes, data that a
DistributedSampler deals out, weights that differ, and no more values exchanged in the whole run than a few
sums. Where a part of that is missing it may be meant so, and nothing is said.
"""

from __future__ import annotations

from typing import Any

from loopwright.checker.ranks.worlds import worlds
from loopwright.events import Finding, Place

LOOKS = 3
"""Times that the weights were looked at, at least, and differed each time."""


def compared(processes: list[dict[str, Any]]) -> list[Finding]:
    """A finding for each world of ranks that never joined."""
    told = [one for one in processes if one["alone"] is not None]
    found = []
    for world in worlds(told, lambda one: one["met"], lambda one: (one["began"], one["ended"])):
        ranks = sorted((one["alone"] for one in world), key=lambda one: one["rank"])
        if [one["rank"] for one in ranks] == [*range(ranks[0]["size"])] and _is_one_training(ranks):
            found += _never_joined(ranks)
    return found


def _is_one_training(ranks: list[dict[str, Any]]) -> bool:
    """Whether all ranks train the same thing, and come to different weights."""
    steps = _looks(ranks)
    alike = len({(one["settings"], one["steps"]) for one in ranks}) == 1
    return (
        alike and len(steps) >= LOOKS and all(_all_differ(ranks, step) for step in steps[-LOOKS:])
    )


def _looks(ranks: list[dict[str, Any]]) -> list[str]:
    """The steps at which all have looked."""
    both = set.intersection(*(set(one["prints"]) for one in ranks))
    return sorted(both, key=int)


def _all_differ(ranks: list[dict[str, Any]], step: str) -> bool:
    return len({one["prints"][step] for one in ranks}) == len(ranks)


def _never_joined(ranks: list[dict[str, Any]]) -> list[Finding]:
    place = next((one["model"] for one in ranks if one["model"]), None)
    keepers = [one for one in ranks if one["kept"]]
    first = keepers[0] if keepers else None
    if place is None or (len(keepers) > 1 and not _over_each_other(keepers)):
        return []
    if first is None:
        lost = "what all but one have learnt is lost"
    elif len(keepers) == 1:
        lost = f"the weights of rank {first['rank']} alone are kept: the others' work is lost"
    else:
        lost = f"all ranks save to {first['saved'][0]}, and the last one is kept"
    since = next(step for step in _looks(ranks) if _all_differ(ranks, step))
    return [
        Finding(
            "ranks-diverge",
            "error" if len(keepers) == 1 else "warning",
            Place(**place),
            f"no gradient and no weight went from rank to rank in {ranks[0]['steps']} steps: each of the "
            f"{len(ranks)} ranks trains a model of its own, and they differ since step {since}",
            why=f"each model sees only its rank's share of the data, and {lost}",
            fix="model = DistributedDataParallel(model)  # call the wrapper: backward averages the gradients",
            ranks=[one["rank"] for one in ranks],
        )
    ]


def _over_each_other(keepers: list[dict[str, Any]]) -> bool:
    """Whether they write the same files, and keep nothing else."""
    files = {tuple(one["saved"]) for one in keepers}
    return len(files) == 1 and files != {()} and not any(one["unsaved"] for one in keepers)
