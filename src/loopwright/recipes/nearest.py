"""The word that somebody most likely meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a hint naming the nearest of ``words``, or all of them where none is near.

    >>> did_you_mean("digit", ["digits", "table"])
    "did you mean 'digits'?"
    >>> did_you_mean("zebra", ["digits", "table"])
    'there are: digits, table'
    """
    words = list(words)
    lowered = {name.lower(): name for name in reversed(words)}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"did you mean {lowered[close[0]]!r}?"
    shown = ", ".join(words[:20]) + (f", … ({len(words)} in all)" if len(words) > 20 else "")
    return f"there are: {shown}" if words else "there are none"
