"""The exception tree. Every error says what happened, where, why it matters and what to write instead.

::

    LoopwrightError                 slug, where, hint, exit_code
    ├── UsageError (ValueError)     exit 2: a setting, flag or argument that cannot be
    ├── StateError (RuntimeError)   exit 1: the loop's protocol was broken at a line of the user's
    ├── DataError (RuntimeError)    exit 1: what the loader gave cannot be trained on
    ├── NonFiniteError (ArithmeticError)  exit 1: a loss or a gradient is nan or inf
    ├── CheckpointError             exit 3: a checkpoint or a run folder is refused
    └── DiskError (OSError)         exit 4: no room, no permission

    LoopwrightWarning (UserWarning)

The slug is the error's anchor on the documentation page ``docs/errors.md``.
"""

from __future__ import annotations

from typing import Any

from loopwright import uncaught

__all__ = [
    "CheckpointError",
    "DataError",
    "DiskError",
    "LoopwrightError",
    "LoopwrightWarning",
    "NonFiniteError",
    "StateError",
    "UsageError",
]


class LoopwrightError(Exception):
    """Base of everything that Loopwright raises by itself.

    Args:
        what: what happened, with the values that were seen.
        slug: kebab-case name, the anchor of the error's entry in ``docs/errors.md``.
        where: ``file.py:12`` of the user's line, when one is to blame.
        hint: what to write or do instead.
    """

    exit_code = 1

    def __init__(self, what: str, *, slug: str, where: str | None = None, hint: str | None = None):
        super().__init__(what)
        uncaught.install()
        self.what = what
        self.slug = slug
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.where}  " if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        first, newline, table = self.what.partition("\n")
        return f"{where}{first}  [{self.slug}]{newline}{table}{hint}"

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of the whole traceback (IPython's protocol)."""
        return uncaught.in_notebook(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive Exception's own way through pickle (a worker process).
        return _rebuild, (type(self), self.what, self.slug, self.where, self.hint)


def _rebuild(
    kind: type[LoopwrightError], what: str, slug: str, where: str | None, hint: str | None
) -> LoopwrightError:
    return kind(what, slug=slug, where=where, hint=hint)


class UsageError(LoopwrightError, ValueError):
    """A setting, a flag or an argument that cannot be."""

    exit_code = 2


class StateError(LoopwrightError, RuntimeError):
    """The loop's protocol was broken at a line of the user's program."""


class DataError(LoopwrightError, RuntimeError):
    """What a loader gave cannot be trained on."""


class NonFiniteError(LoopwrightError, ArithmeticError):
    """A loss or a gradient is nan or inf; the optimizer has not stepped on it."""


class CheckpointError(LoopwrightError):
    """A checkpoint or a run folder is refused; nothing in it was changed."""

    exit_code = 3


class DiskError(LoopwrightError, OSError):
    """The disk has no room, or the folder cannot be written."""

    exit_code = 4


class LoopwrightWarning(UserWarning):
    """Something that trains on, but that its reader wants to know."""
