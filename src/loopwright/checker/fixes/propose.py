"""From findings to files: which findings have a sure fix, what the files become, and writing them.

A file is rewritten only if it is the program's own, is a plain, writable file of the project, and has not
been changed since the check began. It is exchanged whole, keeps its permissions, and can be put back.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.checker.fixes import bookkeeping, losses, modes, order
from loopwright.checker.fixes.edits import Edit, apply, collide
from loopwright.checker.fixes.source import Source
from loopwright.events import CheckRecord, Finding, Place
from loopwright.report.source import shown_path

FIXES = {**order.FIXES, **modes.FIXES, **bookkeeping.FIXES, **losses.FIXES}
"""Rule -> a function of the program and a finding: the edits, or None where the fix is not sure."""


def project_of(folder: Path) -> Path:
    """The nearest folder with a pyproject.toml, setup.py or .git, or this one: the user's own."""
    marks = ("pyproject.toml", "setup.py", ".git")
    folder = folder.resolve()
    above = (
        one for one in (folder, *folder.parents) if any((one / mark).exists() for mark in marks)
    )
    return next(above, folder)


class Program:
    """The files of a program that may be rewritten, parsed when they are asked for.

    Args:
        files: the files that took part in the run.
        folder: nothing outside of it is touched.
        since: when the check began, in seconds since the epoch.
    """

    def __init__(self, files: list[str], folder: Path, since: float):
        self.refused: dict[str, str] = {}
        """File -> why it may not be touched."""
        self._files = list(dict.fromkeys(files))
        self._folder = folder.resolve()
        self._since = since
        self._sources: dict[str, Source | None] = {}

    def source(self, file: str) -> Source | None:
        """A file as a tree; None, and an entry in ``refused``, where it may not be rewritten."""
        if file not in self._sources:
            self._sources[file] = None
            try:
                self._sources[file] = self._read(file)
            except (ValueError, OSError) as error:
                self.refused[file] = str(error)
        return self._sources[file]

    def _read(self, file: str) -> Source:
        path = Path(file).absolute()
        shown = shown_path(str(path))
        if file not in self._files or not path.resolve().is_relative_to(self._folder):
            raise ValueError(f"{shown} is not below {self._folder}")
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{shown} is no plain file")
        if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
            raise ValueError(f"{shown} is not writable")
        if path.stat().st_mtime > self._since:
            raise ValueError(f"{shown} was changed while the check ran")
        return Source(path, path.read_bytes())

    def sources(self) -> Iterator[Source]:
        """Every file of the program that may be rewritten."""
        for file in self._files:
            source = self.source(file)
            if source is not None:
                yield source

    def call(self, place: Place | None, within: Source | None = None) -> Any:
        """(file, call) at a place; (None, None) without one, or in another file than ``within``."""
        source = self.source(place.file) if place is not None else None
        call = source.call(place) if source is not None and place is not None else None
        if call is None or (within is not None and source is not within):
            return None, None
        return source, call


@dataclass(slots=True)
class Rewrite:
    """One file before and after."""

    path: Path
    before: bytes
    after: bytes


@dataclass(slots=True)
class Proposal:
    """What would be changed, for which findings; and why some files may not be."""

    rewrites: list[Rewrite] = field(default_factory=list)
    fixed: list[Finding] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def diff(self) -> str:
        """All changes as a unified diff."""
        return "".join(_diff(one) for one in self.rewrites)


def propose(record: CheckRecord, folder: Path, since: float) -> Proposal:
    """Edits for every finding whose fix is sure, those that would undo another one left out."""
    program = Program([*record.files], folder, since)
    proposal = Proposal()
    edits: list[Edit] = []
    for finding in record.findings:
        fix = FIXES.get(finding.rule)
        found = fix(program, finding) if fix is not None else None
        if found and not any(collide(one, edits) for one in found):
            edits += found
            proposal.fixed.append(finding)
    sources = {id(one.source): one.source for one in edits}
    for source in sources.values():
        after = apply(source, [one for one in edits if one.source is source])
        compile(after, str(source.path), "exec", dont_inherit=True)  # what we write must be Python
        proposal.rewrites.append(Rewrite(source.path, source.content, after))
    wanted = {one.place.file for one in record.findings if one.rule in FIXES}
    proposal.refused = [why for file, why in program.refused.items() if file in wanted]
    return proposal


def _diff(one: Rewrite) -> str:
    name = shown_path(str(one.path)).lstrip("/")
    before, after = (
        text.decode("utf-8", "replace").splitlines(keepends=True)
        for text in (one.before, one.after)
    )
    lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
    without = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + without for line in lines)


def write(path: Path, expected: bytes, content: bytes) -> None:
    """Exchange a file for another content, if it still is what it was.

    Raises:
        OSError: it is not, or it cannot be written; it is as it was.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        shutil.copystat(path, temporary)
        os.utime(temporary)
        if path.read_bytes() != expected:
            raise OSError(f"{shown_path(str(path))} was changed meanwhile")  # noqa: TRY301  cleaned up below
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too leaves nothing beside the user's file
        with suppress(OSError):  # the first failure is the one to report
            os.unlink(temporary)
        raise
