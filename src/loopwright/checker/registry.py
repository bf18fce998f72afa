"""Every rule there is: ours, one module a family, and those that entry points name."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from loopwright.checker.rule import Rule
from loopwright.checker.rules import (
    accumulation,
    bookkeeping,
    coverage,
    data,
    losses,
    mixing,
    modes,
    optimizers,
    order,
    ranks,
    scaling,
    waits,
    weights,
)

GROUP = "loopwright.rules"
FAMILIES = (
    order,
    accumulation,
    scaling,
    optimizers,
    coverage,
    weights,
    modes,
    losses,
    mixing,
    bookkeeping,
    data,
    ranks,
    waits,
)
ACROSS_RANKS = {
    "ddp-duplicate-data": "All ranks train on the same batches: there is no DistributedSampler.",
    "collective-mismatch": "Ranks call different collectives, or the same in another order.",
    "ranks-diverge": "The ranks of a distributed training hold different weights.",
}
"""Rules that need all ranks: ``merge`` finds them when the processes have ended."""


@cache
def rules() -> tuple[type[Rule], ...]:
    """All rule classes, in the order of their families."""
    found: list[type[Rule]] = []
    for family in FAMILIES:
        found += family.RULES
    for point in metadata.entry_points(group=GROUP):
        found.append(point.load())
    return tuple(found)


def names() -> list[str]:
    """The ids of all rules."""
    return [*(rule.name for rule in rules()), *ACROSS_RANKS]


def about() -> dict[str, str]:
    """Id -> one line."""
    return {**{rule.name: rule.about for rule in rules()}, **ACROSS_RANKS}


def severity(name: str) -> str:
    """The severity of a rule's findings, where a finding does not say otherwise."""
    return next((rule.severity for rule in rules() if rule.name == name), "error")
