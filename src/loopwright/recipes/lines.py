"""What ``predict`` was given: a file of lines, or one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loopwright.errors import DataError, UsageError

TEXT_SUFFIXES = (".csv", ".json", ".md", ".tsv", ".txt")


def lines_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield ``file:number`` and the text of each non-blank line; or the source, as one line.

    Raises:
        UsageError: the source is spelt like a text file that does not exist, or nothing is in it.
        DataError: the file is not UTF-8 text.
    """
    path = Path(source) if len(source) < 1024 and "\n" not in source else None
    if path is None or not path.is_file():
        if path is not None and path.suffix in TEXT_SUFFIXES and " " not in source:
            raise UsageError(f"there is no file {source}", slug="no-data")
        if not source.strip():
            raise UsageError("there is nothing to predict: the line is empty", slug="no-data")
        yield source.strip()[:40], source
        return
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file is not UTF-8 text: {error}", slug="not-text", where=source
        ) from None
    lines = [
        (f"{path.name}:{number}", line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not lines:
        raise UsageError(f"{source} is empty", slug="no-data")
    yield from lines
