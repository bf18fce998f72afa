"""A run's optimizers in words, and whose learning rate a curve shows, from the run's identity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_RATE = re.compile(r"(?P<optimizer>.+) group (?P<number>\d+) lr", re.DOTALL)


def rates(identity: Mapping[str, Any]) -> dict[str, float]:
    """Return the learning rate of each optimizer's groups at the run's beginning, the recorded one first.

    >>> rates(
    ...     {
    ...         "optimizer group 0 lr": 0.1,
    ...         "optimizer group 1 lr": 0.2,
    ...         "optimizer group 1 name": "head",
    ...     }
    ... )
    {'group 0': 0.1, 'head': 0.2}
    >>> rates({"G group 0 lr": 0.1, "D group 0 lr": 0.1}), rates({"optimizer group 0 lr": 0.1})
    ({'G': 0.1, 'D': 0.1}, {'optimizer': 0.1})
    """
    groups: dict[str, list[tuple[str, float]]] = {}
    for fact, value in identity.items():
        found = _RATE.fullmatch(fact)
        if found is not None and isinstance(value, int | float):
            name = identity.get(f"{found['optimizer']} group {found['number']} name")
            label = name if isinstance(name, str) else f"group {found['number']}"
            groups.setdefault(found["optimizer"], []).append((label, float(value)))
    shown = {}
    for optimizer, each in groups.items():
        alone = len(each) == 1
        before = "" if len(groups) == 1 else f"{optimizer}, "
        shown |= {optimizer if alone else before + label: rate for label, rate in each}
    return shown


def whose(identity: Mapping[str, Any]) -> str:
    """Return whose learning rate the recorded one is; nothing where all begin with the same."""
    found = rates(identity)
    return next(iter(found)) if len(set(found.values())) > 1 else ""


def optimizers(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return the class of each optimizer with the learning rates that it began with.

    >>> optimizers({"optimizer class": "SGD", "optimizer group 0 lr": 0.1})
    {'optimizer': 'SGD, lr 0.1'}
    """
    shown = {}
    for fact, kind in identity.items():
        name, _, what = fact.rpartition(" ")
        if what != "class":
            continue
        own = {k: v for k, v in identity.items() if k.startswith(f"{name} group ")}
        first: dict[float, str] = {}
        for label, rate in rates(own).items():
            first.setdefault(rate, label)
        each = [f"{rate:g}" + f" ({label})" * (len(first) > 1) for rate, label in first.items()]
        if each:
            known_as = name if name == "optimizer" else f"optimizer {name}"
            shown[known_as] = f"{kind}, lr {', '.join(each)}"
    return shown
