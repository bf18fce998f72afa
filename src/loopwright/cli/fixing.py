"""``loopwright check --fix``: show the fixes, write them, check again, put back what did not help."""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.cli.check import Asked, Chosen, observe
from loopwright.errors import DiskError, UsageError

if TYPE_CHECKING:
    from loopwright.checker.fixes.propose import Proposal
    from loopwright.events import CheckRecord


def be_able(asked: Asked) -> None:
    """Refuse before the program runs what cannot be fixed after it.

    Raises:
        UsageError: libcst is not installed, or the program came from stdin or the command line.
    """
    if asked.in_memory:
        raise UsageError(
            "--fix and --diff need a program in a file",
            slug="nothing-to-fix",
            where="command line",
            hint="write it into a file",
        )
    try:
        import libcst  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--fix and --diff need libcst, which is not installed",
            slug="missing-extra",
            where="command line",
            hint="pip install 'loopwright[fix]'",
        ) from error


def fix(asked: Asked, chosen: Chosen, record: CheckRecord, since: float) -> CheckRecord:
    """Show the diff on stderr; with ``--fix`` write it and check the program again.

    Returns:
        What is to be reported: of the fixed program, or as it was where nothing was fixed.
    """
    from loopwright.checker.fixes.propose import project_of, propose

    proposal = propose(record, project_of(asked.folder), since)
    record.notes += [f"not fixed: {why}" for why in proposal.refused]
    if not proposal.rewrites:
        record.notes.append("there is nothing that could be fixed for sure")
        return record
    sys.stderr.write(proposal.diff())
    what = named(proposal)
    if asked.given["diff"]:
        record.notes.append(f"--fix would fix {what}")
        return record
    _write(proposal)
    linecache.clearcache()
    print(f"loopwright check: wrote fixes of {what}; checking again", file=sys.stderr)
    try:
        again = observe(asked, chosen)
        wrong = problem(record, again, proposal)
    except BaseException:  # Ctrl-C too: a fix that was not checked does not stay
        _put_back(proposal)
        raise
    if wrong is None:
        again.notes.append(f"fixed: {what}")
        return again
    _put_back(proposal)
    several = "; --select RULE fixes one rule at a time" if len(proposal.fixed) > 1 else ""
    record.notes.append(f"put back, nothing is changed: {wrong}{several}")
    return record


def named(proposal: Proposal) -> str:
    """Like "missing-zero-grad (train.py:35), set-epoch (train.py:30)"."""
    from loopwright.report.source import shown_path

    return ", ".join(
        f"{one.rule} ({shown_path(one.place.file)}:{one.place.line})" for one in proposal.fixed
    )


def problem(before: CheckRecord, after: CheckRecord, proposal: Proposal) -> str | None:
    """Why the fixed program is not better; None if it is."""
    if after.program.exit_code != before.program.exit_code:
        ended = after.program.exception or f"code {after.program.exit_code}"
        return f"the fixed program ended with {ended}"
    if after.steps == 0 < before.steps:
        return "the fixed program took no optimizer step"
    allowed = Counter((one.rule, one.place.file) for one in before.findings)
    allowed -= Counter((one.rule, one.place.file) for one in proposal.fixed)
    fixed = {one.rule for one in proposal.fixed}
    for one in after.findings:
        key = (one.rule, one.place.file)
        if not allowed[key] and (one.severity != "hint" or one.rule in fixed):
            still = "is still there" if one.rule in fixed else "came up"
            return f"{one.rule} {still} at line {one.place.line}: {one.message}"
        allowed[key] -= 1
    return None


def _write(proposal: Proposal) -> None:
    from loopwright.checker.fixes.propose import write

    done = []
    try:
        for one in proposal.rewrites:
            write(one.path, one.before, one.after)
            done.append(one)
    except OSError as error:
        for one in done:
            write(one.path, one.after, one.before)
        raise DiskError(
            f"cannot write the fix: {error}", slug="cannot-write", where=_name(one.path)
        ) from error


def _put_back(proposal: Proposal) -> None:
    from loopwright.checker.fixes.propose import write

    for one in proposal.rewrites:
        try:
            write(one.path, one.after, one.before)
        except OSError as error:
            print(f"loopwright: could not put {_name(one.path)} back: {error}", file=sys.stderr)
    linecache.clearcache()


def _name(path: Path) -> str:
    from loopwright.report.source import shown_path

    return shown_path(str(path))
