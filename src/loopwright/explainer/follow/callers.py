"""A function that several lines of a step call (training and validation, both halves of a GAN)."""

from __future__ import annotations

from typing import Any

MOST = 4
"""Calls of one function that are told apart."""


class Callers:
    """Which statements led to each visit.

    Args:
        visits: of one turn.
    """

    def __init__(self, visits: list[Any]):
        self.above = {id(called): visit for visit in visits for called in visit.calls}

    def _chain(self, visit: Any) -> tuple[str, ...]:
        """Places of the calls around it, the innermost first."""
        found: list[str] = []
        above = self.above.get(id(visit))
        while above is not None and len(found) < 32:
            found.append(f"{above.statement.source.number}:{above.statement.line}")
            above = self.above.get(id(above))
        return tuple(found)

    def apart(self, group: list[Any]) -> dict[str, list[Any]]:
        """Runs of one statement by the call that led there; empty where there is nothing to tell apart.

        That is where it does something of a step, or ran both with gradients and without.
        """
        if len(group) < 2 or not (
            any(visit.events for visit in group) or len({visit.grad_mode for visit in group}) > 1
        ):
            return {}
        chains = {id(visit): self._chain(visit) for visit in group}
        different = list(chains.values())
        depth = 0
        while len({chain[depth : depth + 1] for chain in different}) == 1 and different[0][depth:]:
            depth += 1
        found: dict[str, list[Any]] = {}
        for visit in group:
            found.setdefault("".join(chains[id(visit)][depth : depth + 1]), []).append(visit)
        return found if 1 < len(found) <= MOST and "" not in found else {}
