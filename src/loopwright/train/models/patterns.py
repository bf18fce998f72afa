"""Choosing parameters and modules by patterns on their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from loopwright.errors import UsageError

__all__ = ["matches", "unmatched"]


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern`` means ``name``: as a glob, as itself, or as the module that it is in.

    ``*`` goes across dots.

    >>> [matches("encoder.0.weight", p) for p in ("encoder", "encoder.*", "*.weight", "enc")]
    [True, True, True, False]
    """
    return fnmatchcase(name, pattern) or name.startswith(pattern + ".")


def unmatched(pattern: str, names: Iterable[str], what: str) -> UsageError:
    """Return the error for a pattern that means nothing, with the nearest name.

    >>> print(unmatched("head.wieght", ["head.weight", "head.bias"], "parameter"))
    no parameter matches 'head.wieght'; there are 2, such as 'head.weight'.  [pattern-unmatched]
      hint: did you mean 'head.weight'?
    """
    names = list(names)
    candidates = {*names, *(name.rpartition(".")[0] for name in names)} - {""}
    near = difflib.get_close_matches(pattern, sorted(candidates), n=1, cutoff=0.5)
    such = f", such as {names[0]!r}" if names else ""
    return UsageError(
        f"no {what} matches {pattern!r}; there are {len(names)}{such}.",
        slug="pattern-unmatched",
        hint=f"did you mean {near[0]!r}?" if near else None,
    )
