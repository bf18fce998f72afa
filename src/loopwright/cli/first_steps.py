"""The rules of ``check`` on the first steps of ``loopwright train``: told by the run, then out of the way.

The training is the same with and without, bit for bit: whatever is found, it goes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from loopwright.cli.loop_settings import TRIES
from loopwright.events import CheckRecord, Finding, Place

if TYPE_CHECKING:
    from loopwright.checker.session import Session
    from loopwright.checker.suppress import Settings
    from loopwright.cli.train import Asked

STEPS = 100
"""Optimizer steps that are observed; rules look at the steps 1, 2, 4, 8, … and know much by then."""
_OURS = str(Path(__file__).parents[1]) + os.sep


class FirstSteps:
    """Observes from ``with`` on, through the making of model and data, until so many steps are taken.

    Called with a run, as a callback of it, it tells the run what was found, when the run speaks anyway.
    """

    def __init__(self, asked: Asked):
        self._asked = asked
        self._session: Session | None = None
        self._settings: Settings | None = None
        self._told = False

    def __enter__(self) -> Self:
        loop = self._asked.loop
        if loop.no_check or any(getattr(loop, name) for name in TRIES):
            return self
        if os.environ.get("RANK", "0") != "0":  # of several processes the first one looks and tells
            return self
        from loopwright.checker.session import Session
        from loopwright.checker.suppress import read_settings
        from loopwright.observe.watch import Observer

        if Observer.active is not None:  # the whole command is checked already
            return self
        file = self._asked.source.file
        self._settings = read_settings(file.parent if file is not None else Path.cwd())
        self._session = Session(steps=STEPS)
        self._session.start()
        if hasattr(os, "register_at_fork"):
            # A worker of a DataLoader has nothing to tell, and lives on when the hooks here are gone.
            os.register_at_fork(after_in_child=self._session.observer.uninstall)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        session = self._session
        if session is None:
            return
        if isinstance(error, Exception) and not self._told:
            session.observer.leave()  # what was found may be why it failed
            for finding in self._record(session).findings:
                if finding.severity != "hint":
                    self._show(None, finding)
        session.observer.uninstall()

    def __call__(self, run: Any) -> None:
        """Listen to a run's moments: its own words come first, then what was found."""
        if self._session is not None:
            for moment in ("log", "loop_end"):
                run.on(moment, self._moment)

    def _moment(self, event: Any) -> None:
        session = self._session
        if self._told or session is None:
            return
        if session.observer.installed:
            if event.moment != "loop_end" and event.turn < STEPS:
                return
            # The run is shorter, or its steps are no optimizer's steps that can be seen (captured ones).
            session.observer.leave()
        self._told = True
        record = self._record(session)
        for note in record.notes:
            event.run.note(f"check: {note}")
        for finding in record.findings:
            event.run.note(_line(finding))
            self._show(event.run, finding)

    def _record(self, session: Session) -> CheckRecord:
        """What the rules say and the user wants to hear, each at a line of the recipe."""
        from loopwright.checker import suppress

        assert self._settings is not None
        found, told = session.end(), session.plain()
        record = CheckRecord(found, files=told["files"], notes=told["notes"])
        for one in record.findings:
            if not _is_users(one.place.file):
                one.place = self._recipe()
            one.related = [place for place in one.related if _is_users(place.file)]
        suppress.silence(record, self._settings)
        return record

    def _recipe(self) -> Place:
        """Where the recipe's function begins: the loop that called torch is ours."""
        function = self._asked.source.info.function
        code = function.__code__
        return Place(code.co_filename, code.co_firstlineno)

    def _show(self, run: Any, finding: Finding) -> None:
        """Above the bar, where there is one."""
        from loopwright.cli.failures import colourful
        from loopwright.report.findings import frame

        if self._asked.loop.quiet:
            return
        text = frame(finding, colour=colourful()).rstrip("\n")
        active = run.active if run is not None else None
        if active is not None and active.progress is not None:
            active.progress.line(text)
        else:
            print(text, file=sys.stderr)


def _is_users(file: str) -> bool:
    return not file.startswith(_OURS) or file.startswith(os.path.join(_OURS, "recipes"))


def _line(finding: Finding) -> str:
    from loopwright.report.source import shown_path

    where = f"{shown_path(finding.place.file)}:{finding.place.line}"
    fix = f" Fix: {'; '.join(finding.fix.splitlines())}" if finding.fix else ""
    return f"check: {finding.severity}[{finding.rule}] {where}: {finding.message}.{fix}"
