"""``loopwright explain --diff BEFORE FILE.py``: two programs, or one before and after a change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.cli.output import write_page, write_text
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.events.explained import DifferenceRecord, ExplainRecord

STDOUT = "-"


def differ(
    words: Sequence[str],
    given: dict[str, Any],
    recorded: Callable[[Sequence[str]], tuple[ExplainRecord | None, int]],
) -> int:
    """Explain both, tell the difference; the exit code is the second program's.

    Args:
        words: the second program and its arguments, which the first one is given too.
        given: flags; ``diff`` is the first program, or the JSON of an earlier explanation.
        recorded: runs a program and gives its narrated record and its exit code.
    """
    from loopwright.explainer.difference import difference

    first = str(given["diff"])
    if not words:
        raise UsageError(
            f"with what shall {first} be compared?", slug="no-program", where="command line",
            hint=f"loopwright explain --diff {first} train.py",
        )  # fmt: skip
    if first.endswith(".json"):
        before = read(Path(first))
    else:
        print(f"before: {first}", file=sys.stderr)
        before = _explained([first, *words[1:]], recorded)[0]
    print(f"after: {words[0]}", file=sys.stderr)
    after, code = _explained(words, recorded)
    if before.title == after.title:
        before.title = f"{before.title} (before)"
    _report(difference(before, after), given)
    return code


def read(path: Path) -> ExplainRecord:
    """The record that ``--json`` wrote."""
    from loopwright.events.explained import ExplainRecord
    from loopwright.explainer.merge import plain

    def refuse(why: str) -> UsageError:
        return UsageError(
            f"{path} is no explanation: {why}", slug="no-explanation", where="command line",
            hint="loopwright explain --json=before.json train.py writes one",
        )  # fmt: skip

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refuse("there is no such file") from None
    except (OSError, ValueError) as error:
        raise refuse(f"{type(error).__name__}: {error}") from None
    version = found.pop("version", None) if isinstance(found, dict) else None
    if version != 1:
        raise refuse(f"its version is {version!r}, and 1 is read here")
    try:
        record: ExplainRecord = plain(ExplainRecord, found)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise refuse(f"its fields are others ({error})") from None
    return record


def _explained(words: Sequence[str], recorded: Any) -> tuple[ExplainRecord, int]:
    record, code = recorded(words)
    if record is None:
        raise UsageError(
            "nothing could be recorded of it, so there is nothing to compare",
            slug="nothing-recorded", where=" ".join(words[:2]), hint="is this the script that trains?",
        )  # fmt: skip
    return record, code


def _report(record: DifferenceRecord, given: dict[str, Any]) -> None:
    """Print and write the difference in the forms that were asked for."""
    from loopwright.report import difference_json

    if given["json"] == STDOUT:
        print(difference_json.render(record))
    elif given["json"] is not None:
        write_text(Path(given["json"]), difference_json.render(record) + "\n")
    if given["json"] != STDOUT and not given["quiet"]:
        from loopwright.cli.terminal import console
        from loopwright.report.difference_terminal import WIDTH, difference

        out = console()
        width = min(WIDTH, out.width)
        out.print(difference(record, width=width), width=width)
    from loopwright.report import difference_html

    write_page(given, "explain-diff.html", lambda: difference_html.render(record))
