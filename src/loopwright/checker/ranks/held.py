"""What the ranks of a training hold: batches, which should differ, and weights, which should not."""

from __future__ import annotations

from typing import Any

from loopwright.checker.ranks.worlds import worlds
from loopwright.events import Finding, Place


def compared(processes: list[dict[str, Any]], found: list[Finding]) -> list[Finding]:
    """Findings about all ranks that met; ``found`` is what each of them found by itself."""
    told = [one for one in processes if one["rank"] is not None]
    more: list[Finding] = []
    for world in worlds(told, lambda one: one["met"], lambda one: (one["began"], one["ended"])):
        ranks = [one["ranks"] for one in world]
        if len({one["rank"] for one in ranks}) == len(ranks) > 1:  # else it is not known who is who
            more += _differing(ranks, found)
    return more


def _differing(ranks: list[dict[str, Any]], found: list[Finding]) -> list[Finding]:
    if not all(one["prints"] for one in ranks):
        return []
    more = []
    numbers = sorted(one["rank"] for one in ranks)
    site = next((one.get("loader") for one in ranks if one.get("loader")), None)
    batches = [tuple(one["batches"]) for one in ranks]
    if site and len(batches[0]) >= 2 and len(set(batches)) == 1:
        more.append(
            Finding(
                "ddp-duplicate-data",
                "error",
                Place(**site),
                f"the first {len(batches[0])} batches were equal on all {len(ranks)} ranks "
                f"(sampler: {ranks[0]['sampler']})",
                why=f"every rank computes the same gradient: {len(ranks)} processes do the work of one",
                fix="DataLoader(dataset, sampler=DistributedSampler(dataset))",
                ranks=numbers,
            )
        )
    if any(one.rule == "ddp-bypassed" for one in found):
        return more
    wrapped = next((one.get("wrapped") for one in ranks if one.get("wrapped")), None)
    for prints in zip(*(one["prints"] for one in ranks), strict=False):
        steps = sorted(set.intersection(*(set(map(int, one)) for one in prints)))
        differ = [step for step in steps if len({one[str(step)] for one in prints}) > 1]
        if (
            wrapped
            and len(steps) >= 3
            and differ
            and differ == steps[-len(differ) :]
            and len(differ) >= 3
        ):
            more.append(
                Finding(
                    "ranks-diverge",
                    "error",
                    Place(**wrapped),
                    f"the weights of the ranks differ since step {differ[0]} "
                    f"(looked at steps {', '.join(map(str, steps))})",
                    why="the ranks train different models, and only one of them is saved",
                    fix="train through the wrapper and change all ranks' weights alike;\n"
                    "or dist.broadcast(p.data, src=0) for every parameter, before the first step",
                    count=len(differ),
                    ranks=numbers,
                )
            )
    return more
