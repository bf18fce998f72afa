"""What the library says in Python's words, in the command line's: ``resume="never"`` is a flag here."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import fields

from loopwright.cli.loop_settings import LoopSettings, flag_name

_VALUE = r"\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[\w.]+"
_KEYWORD = re.compile(rf"\b(?P<name>[a-z]+(?:_[a-z]+)*)\b(?P<equals>=(?P<value>{_VALUE})?)?")
_START_FROM = re.compile(r"lw\.load_weights\(\"(?P<path>[^\"]+)\", model, strict=False\)")
_IN_A_CALL = re.compile(r"\w\([^()]*$")


def as_flags(text: str) -> str:
    """Return a hint with each keyword of ``lw.fit`` that has a flag written as that flag.

    >>> as_flags(
    ...     'another out=, resume="never" (the old one is kept), or allow_change=["lr", "clip"]'
    ... )
    'another --out, --resume never (the old one is kept), or --allow-change lr --allow-change clip'
    >>> as_flags("Job(epochs=10) in the recipe, or a lower clip")
    'Job(epochs=10) in the recipe, or a lower clip'
    """
    names = {field.name for field in fields(LoopSettings)}

    def flag(found: re.Match[str]) -> str:
        name = found["name"]
        # A bare word is one of ours only where English has no such word.
        meant = name in names and (found["equals"] is not None or "_" in name)
        if not meant or _IN_A_CALL.search(text[: found.start()]):
            return found[0]
        return " ".join(_with_value(flag_name(name), value) for value in _values(found["value"]))

    text = _START_FROM.sub(lambda found: f"--init {shlex.quote(found['path'])}", text)
    return _KEYWORD.sub(flag, text)


def _values(written: str | None) -> list[object]:
    if written is None:
        return [None]
    try:
        value = ast.literal_eval(written.replace(", …", ""))
    except (ValueError, SyntaxError):
        return [written]
    return value if isinstance(value, list) else [value]


def _with_value(flag: str, value: object) -> str:
    if value is None or value is True:
        return flag
    return f"{flag} {shlex.quote(str(value))}"
