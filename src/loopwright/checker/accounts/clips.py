"""The account of clippings: what each one found in the gradients, and what came to them after it.

A clipping is to act on what the step will use. It may come before there is anything, after it was used,
while it is still scaled, before a window of several backward passes is complete, or it may be given nothing
at all: an iterator that somebody else has read to its end.
"""

from __future__ import annotations

from typing import Any

import torch

from loopwright.checker.accounts import ledgers
from loopwright.checker.accounts.gradients import Gradients
from loopwright.checker.accounts.ledgers import Ledger
from loopwright.checker.accounts.optimizers import Entry
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe.content import is_power_of_two
from loopwright.observe.sites import Site


class Clips:
    """The account; see the module."""

    def __init__(self, gradients: Gradients):
        self.gradients = gradients
        self.seen = Tally()
        """(place, "nothing" | "used" | "fresh" | "scaled" | "within" | "spent")."""
        self._clipped: dict[int, tuple[Site, int, bool]] = {}
        """Ledger id -> where it was clipped last, over how many passes that no step has used, and whether
        that changed anything."""
        self._now: list[tuple[int, int]] = []
        """What is being clipped: ledger ids and their passes."""
        self._spent: dict[Site, Any] = {}
        """The iterator that was read to its end; held, so that a later one is not taken for it."""

    def before_clip(self, event: Event) -> None:
        """Is there a gradient to clip, and has no step used it yet?"""
        parameters = event.args[0] if event.args else event.kwargs.get("parameters")
        if isinstance(parameters, torch.Tensor):
            parameters = [parameters]
        if hasattr(parameters, "__next__"):
            self._find_spent(parameters, event)
            return
        ids = {id(one) for one in parameters or ()}
        state = scaled = owner = None
        self._now = []
        within = False
        for entry in self.gradients.optimizers.here():
            for ledger in entry.ledgers:
                parameter = ledger.ref()
                if parameter is None or id(parameter) not in ids:
                    continue
                owner = owner or entry
                within = self._is_within(entry, ledger, event) or within
                if not ledger.deposits:
                    state = state or "nothing"
                elif any(entry.order not in one.consumers for one in ledger.deposits):
                    state = "fresh"
                    if any(one.scaled for one in ledger.deposits):
                        scaled = scaled or not entry.tally.get("unscaled").facts.get("now")
                elif state != "fresh":
                    state = "used"
        if state is None:
            return
        seen = self.seen.add((event.site, state), clip=event.site)
        seen.facts |= {"limit": ledgers.limit_of(event), "entry": owner}
        last = self.gradients.last_backward
        if last is not None:
            seen.sites.setdefault("backward", last[0])
        if scaled and self.gradients.scaler_enabled:
            self.seen.add((event.site, "scaled"), clip=event.site).facts["entry"] = owner
        if within:
            found = self.seen.add((event.site, "within"), clip=event.site)
            found.facts |= {"limit": ledgers.limit_of(event), "entry": owner}
            if last is not None:
                found.sites.setdefault("backward", last[0])

    def _is_within(self, entry: Entry, ledger: Ledger, event: Event) -> bool:
        """Was it clipped here already, with fewer passes of the same loss in it, and did that change it?"""
        waiting = [one for one in ledger.deposits if entry.order not in one.consumers]
        if not waiting:
            self._clipped.pop(id(ledger), None)
            return False
        self._now.append((id(ledger), len(waiting)))
        site, passes, acted = self._clipped.get(id(ledger), (None, 0, False))
        one_loss = len({one.site for one in waiting}) == 1
        return site is event.site and acted and one_loss and len(waiting) > passes

    def _find_spent(self, parameters: Any, event: Event) -> None:
        """An empty iterator, given a second time, while gradients wait for a step."""
        again = self._spent.get(event.site) is parameters
        self._spent[event.site] = parameters
        for entry in self.gradients.optimizers.here() if again else ():
            waiting = [one for ledger in entry.ledgers for one in ledger.deposits]
            if any(entry.order not in one.consumers for one in waiting):
                seen = self.seen.add((event.site, "spent"), clip=event.site)
                seen.facts |= {"limit": ledgers.limit_of(event), "entry": entry}
                return

    def after_clip(self, event: Event) -> None:
        """How large was the norm?"""
        several = self._of_several()
        now, self._now = self._now, []
        result = event.result
        norm = isinstance(result, torch.Tensor) and result.numel() == 1
        acted = not norm
        if norm:
            for state in ("used", "fresh", "scaled"):
                seen = self.seen.get((event.site, state))
                if seen.count and is_power_of_two(seen.count):
                    seen.facts["norm"] = max(float(result), seen.facts.get("norm", 0.0))
            limit = ledgers.limit_of(event)
            if several and isinstance(limit, (int, float)):  # reading it waits for the device
                acted = float(result) > limit
        for key, passes in now:
            self._clipped[key] = (event.site, passes, acted)

    def _of_several(self) -> bool:
        """Do steps use more than one pass of a place? Told from the latest steps."""
        return any(one.sizes and one.sizes[-1][1] > 1 for one in self.gradients.optimizers.here())
