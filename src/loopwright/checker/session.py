"""One check of one process: accounts, an observer, and what the rules find in the end."""

from __future__ import annotations

import time
import traceback
from typing import Any

from loopwright.checker.accounts.books import Accounts
from loopwright.checker.accounts.collectives import meeting
from loopwright.checker.accounts.ranks import rank_facts
from loopwright.checker.registry import rules
from loopwright.events import Finding
from loopwright.observe.sites import known_codes
from loopwright.observe.watch import Observer


class Session:
    """Observes from ``start`` to ``end``.

    Args:
        steps: stop observing after that many optimizer steps.
    """

    def __init__(self, *, steps: int | None = None):
        self.observer = Observer([], steps=steps, on_out=self._out_early)
        self.accounts = Accounts(self.observer.here)
        self.observer.listeners += self.accounts.listeners()
        self.notes: list[str] = []
        self._found: list[Finding] | None = None

    def start(self) -> None:
        """Begin to observe."""
        self.observer.install()

    def _out_early(self) -> None:
        self.accounts.complete = False
        self._found = self.conclude()

    def end(self, *, ended_well: bool = True) -> list[Finding]:
        """Stop observing and return what was found, worst first."""
        self.observer.uninstall()
        if self._found is None:
            self.accounts.ended_well = ended_well
            self._found = self.conclude()
        return self._found

    def conclude(self) -> list[Finding]:
        """Ask every rule; leave out what another finding explains."""
        self.observer.here.busy = True
        try:
            self.accounts.modes.look_at_gone()
            found: list[Finding] = []
            for kind in rules():
                try:
                    found += kind().findings(self.accounts)
                except Exception:  # noqa: BLE001  one broken rule must not hide what the others found
                    last = traceback.format_exc().strip().splitlines()
                    self.notes.append(
                        f"rule {kind.name} failed: {last[-1]} ({last[-3].strip() if len(last) > 2 else ''})"
                    )
            return settle(found)
        finally:
            self.observer.here.busy = False

    def plain(self) -> dict[str, Any]:
        """Facts for the report and for other ranks."""
        if self.observer.failure is not None:
            self.notes.append(
                "the observer failed and switched itself off: "
                + self.observer.failure.strip().splitlines()[-1]
            )
        return {
            "events": dict(self.observer.counts),
            "steps": self.accounts.optimizers.total_steps,
            "files": list(dict.fromkeys(code.co_filename for code in known_codes())),
            "notes": self.notes,
            "rank": self.accounts.ranks.rank,
            "met": meeting(),
            "began": self.accounts.collectives.began,
            "ended": time.time(),
            "ranks": rank_facts(self.accounts.ranks),
            "alone": self.accounts.joining.facts(
                whole=self.accounts.complete and self.accounts.ended_well
            ),
        }


ORDER = {"error": 0, "warning": 1, "hint": 2}


def settle(found: list[Finding]) -> list[Finding]:
    """Root causes instead of followers, one finding per rule and line, worst first."""
    present = {one.rule for one in found if one.severity != "hint"}
    follows = {rule.name: set(rule.follows) for rule in rules()}
    unique: dict[tuple[str, str, int], Finding] = {}
    for one in found:
        if follows.get(one.rule, set()) & present or not one.place.line:
            continue
        key = (one.rule, one.place.file, one.place.line)
        known = unique.get(key)
        if known is None:
            unique[key] = one
        else:
            known.count = max(known.count, one.count)
    return sorted(
        unique.values(), key=lambda one: (ORDER[one.severity], one.place.file, one.place.line)
    )
