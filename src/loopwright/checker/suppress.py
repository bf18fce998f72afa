"""What a person has said about findings: comments in the source, settings, a baseline."""

from __future__ import annotations

import io
import json
import linecache
import re
import tokenize
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.errors import UsageError
from loopwright.events import CheckRecord, Finding, Place

COMMENT = re.compile(r"#\s*loopwright:\s*ignore(?:\[(?P<rules>[\w\s,-]*)\])?")


@dataclass(slots=True)
class Settings:
    """``[tool.loopwright.check]``; flags of the command line win."""

    select: list[str] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    baseline: str | None = None
    steps: int | None = None


def read_settings(start: Path) -> Settings:
    """The settings of the nearest pyproject.toml at or above ``start`` that has some.

    Raises:
        UsageError: a setting that there is not, or of another type.
    """
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"not valid TOML: {error}", slug="bad-check-settings", where=str(file)
            ) from error
        found = table.get("tool", {}).get("loopwright", {}).get("check")
        if found is not None:
            return _settings(found, file)
    return Settings()


def _settings(found: dict[str, Any], file: Path) -> Settings:
    kinds = {"select": list, "ignore": list, "baseline": str, "steps": int}
    for name, value in found.items():
        if name not in kinds:
            raise UsageError(
                f"unknown setting {name!r} in [tool.loopwright.check]",
                slug="bad-check-settings",
                where=str(file),
                hint="there are: " + ", ".join(kinds),
            )
        if not isinstance(value, kinds[name]):
            raise UsageError(
                f"{name} takes a {kinds[name].__name__}, not {value!r}",
                slug="bad-check-settings",
                where=str(file),
            )
    settings = Settings(**found)
    if settings.baseline is not None:
        settings.baseline = str(file.parent / settings.baseline)
    return settings


def check_names(names: Iterable[str], known: list[str], flag: str) -> None:
    """Refuse a rule that there is not.

    Raises:
        UsageError: with the nearest name.
    """
    from difflib import get_close_matches

    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                f"{flag}: there is no rule {name!r}",
                slug="no-such-rule",
                where="command line",
                hint=f"did you mean {close[0]}?" if close else "loopwright rules lists them",
            )


def silence(record: CheckRecord, settings: Settings) -> None:
    """Leave out what settings, comments and the baseline know, where nothing else was asked for."""
    select(record, settings.select, settings.ignore)
    apply_comments(record, record.files, report_unused=False)
    if settings.baseline is not None:
        apply_baseline(record, Path(settings.baseline))


def select(record: CheckRecord, select: list[str], ignore: list[str]) -> None:
    """Keep only selected rules, and none that are ignored."""
    record.findings = [
        one
        for one in record.findings
        if (not select or one.rule in select) and one.rule not in ignore
    ]


def apply_comments(record: CheckRecord, files: Iterable[str], *, report_unused: bool) -> None:
    """Drop findings whose line says so; say which comments had nothing to drop."""
    comments = {
        file: _comments(file) for file in {*files, *(one.place.file for one in record.findings)}
    }
    used: set[tuple[str, int]] = set()
    kept = []
    for one in record.findings:
        line = _ignoring(one, comments.get(one.place.file, {}))
        if line is None:
            kept.append(one)
        else:
            used.add((one.place.file, line))
    record.suppressed += len(record.findings) - len(kept)
    record.findings = kept
    if report_unused:
        for file, found in comments.items():
            for line, (column, rules) in found.items():
                if (file, line) not in used:
                    what = f"[{', '.join(sorted(rules))}]" if rules else ""
                    record.findings.append(
                        Finding(
                            "unused-ignore",
                            "hint",
                            Place(
                                file,
                                line,
                                column + 1,
                                line,
                                len(linecache.getline(file, line).rstrip()) + 1,
                            ),
                            f"this comment suppressed nothing in this run: ignore{what}",
                            fix="remove the comment",
                        )
                    )


def _ignoring(finding: Finding, comments: dict[int, tuple[int, set[str]]]) -> int | None:
    for line in range(finding.place.line, max(finding.place.end_line, finding.place.line) + 1):
        if line in comments and (not comments[line][1] or finding.rule in comments[line][1]):
            return line
    return None


def _comments(file: str) -> dict[int, tuple[int, set[str]]]:
    """Line -> (column, rules; empty for all). Only true comments, no strings that look like one."""
    text = "".join(linecache.getlines(file))
    if "loopwright:" not in text:
        return {}
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            match = COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
            if match:
                rules = {one.strip() for one in (match["rules"] or "").split(",") if one.strip()}
                found[token.start[0]] = (token.start[1] + match.start(), rules)
    except (tokenize.TokenError, IndentationError):
        return found
    return found


def fingerprint(finding: Finding) -> dict[str, str]:
    """What stays the same when lines move: the rule, the file, the text of the line."""
    from loopwright.report.source import shown_path

    return {
        "rule": finding.rule,
        "file": shown_path(finding.place.file),
        "line": linecache.getline(finding.place.file, finding.place.line).strip(),
    }


def read_baseline(file: Path) -> list[dict[str, str]]:
    """What a baseline knows.

    Raises:
        UsageError: there is no such file, or it is no baseline.
    """
    try:
        known: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))["findings"]
    except FileNotFoundError:
        raise UsageError(
            f"there is no baseline {file}",
            slug="bad-baseline",
            where="command line",
            hint="--update-baseline writes it",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is no baseline", slug="bad-baseline", where="command line"
        ) from error
    return known


def apply_baseline(record: CheckRecord, file: Path) -> None:
    """Drop what the baseline knows."""
    known = read_baseline(file)
    kept = [one for one in record.findings if fingerprint(one) not in known]
    record.suppressed += len(record.findings) - len(kept)
    record.findings = kept


def write_baseline(record: CheckRecord, file: Path) -> None:
    """Everything found now is known from now on."""
    known = [fingerprint(one) for one in record.findings if one.severity != "hint"]
    file.write_text(
        json.dumps({"version": 1, "findings": known}, indent=2) + "\n", encoding="utf-8"
    )
