"""The base of every rule, and how rules are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from loopwright.events import Finding, Place, Severity
from loopwright.observe.sites import Position, Site

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.optimizers import Entry


class Rule:
    """One kind of mistake.

    A rule reads the accounts (``checker/accounts``) when the observation has ended, and yields a finding
    for each mistake that they *prove*. It sees no event, no source text, no name of a variable.

    To write one: subclass, set ``name`` (kebab-case, the id in reports and suppressions), ``severity``
    ("error": the training is wrong, "warning": probably, "hint": costs time or memory), ``about`` (one line)
    and, if another rule's finding explains this one's, ``follows`` (names of such rules: where one of them
    has found something this rule's findings are left out). Implement ``findings``:

        class NeverStepped(Rule):
            name = "never-stepped"
            severity = "warning"
            about = "An optimizer was made and never stepped."

            def findings(self, accounts):
                for entry in accounts.optimizers.entries:
                    if accounts.complete and not entry.steps and entry.backwards >= 20:
                        yield self.finding(
                            entry.site,
                            f"this {entry.kind} has not stepped in {entry.backwards} backward passes",
                            fix="optimizer.step()",
                            count=entry.backwards,
                        )

    and name the class in an entry point of the group ``loopwright.rules``. A rule comes with a page in
    docs/rules, a program where it fires, and programs where it must not (tests/programs).
    """

    name: ClassVar[str]
    severity: ClassVar[Severity] = "warning"
    about: ClassVar[str] = ""
    follows: ClassVar[tuple[str, ...]] = ()

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        """Yield what the accounts prove."""
        raise NotImplementedError

    def finding(
        self, at: Site | Position | None, message: str, *, why: str = "", fix: str = "", count: int = 1,
        severity: Severity | None = None, related: tuple[tuple[Site | Position | None, str], ...] = (),
        sites: dict[str, Site | Position | None] | None = None,
    ) -> Finding:  # fmt: skip
        """A finding of this rule at a place.

        ``related`` are further places with a note each, ``sites`` those that a fix needs (``checker/fixes``).
        """
        found = Finding(
            self.name, severity or self.severity, place(at), message, why=why, fix=fix, count=count
        )
        found.related = [place(where, note) for where, note in related if where is not None]
        found.sites = {role: place(at) for role, at in (sites or {}).items() if at is not None}
        return found


def place(at: Site | Position | None, note: str = "") -> Place:
    """A call site or a position as a plain record."""
    if at is None:
        return Place("", 0, note=note)
    found = at.position() if isinstance(at, Site) else at
    return Place(found.file, found.line, found.column, found.end_line, found.end_column, note)


def amount(size: int) -> str:
    """A size in bytes as people say it: "512 B", "3.4 kB", "12 MB"."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"


def grouped(entries: list[Entry], key: str) -> Iterator[Entry]:
    """Entries that saw ``key``, one for each place where an optimizer was made (k folds are one)."""
    seen = set()
    for entry in sorted(entries, key=lambda one: -one.tally.get(key).count):
        if entry.tally.get(key).count and entry.site not in seen:
            seen.add(entry.site)
            yield entry
