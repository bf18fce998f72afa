"""Which line of the user's called us: noted in 0.1 µs, resolved to ``file.py:12`` only for a message."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any

import torch

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_COMMAND_LINE = os.path.join(_OURS, "cli", "main.py")
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

CallSite = tuple[CodeType, int]
"""A code object and an instruction offset; reading ``f_lineno`` costs up to 13 µs, this 0.07."""


def caller(depth: int = 1) -> CallSite:
    """Return the call site ``depth`` frames above the function that asks."""
    frame = sys._getframe(depth + 1)
    return frame.f_code, frame.f_lasti


def where(site: CallSite | None) -> str | None:
    """Return ``file.py:12`` of a call site, the path relative to the working folder if below it.

    Where we called ourselves (``lw.fit``), it is the user's line that called us, if one did.
    """
    if site is None:
        return None
    code, instruction = site
    if code.co_filename.startswith(_OURS):
        return user_line()
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{_short(code.co_filename)}:{line}"


def user_frame(depth: int = 1) -> FrameType | None:
    """Return the nearest frame above that is the user's: not ours, torch's, or wrapped around ours.

    None under the command line: what stands above it is the script that starts it.
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None and _of_a_library(frame.f_code):
        if frame.f_code.co_filename == _COMMAND_LINE:
            return None
        frame = frame.f_back
    return frame


def _of_a_library(code: CodeType) -> bool:
    """Ours, torch's, the standard library's (``contextlib``), or an installed generator (``tqdm``)."""
    path = code.co_filename
    if path.startswith((_OURS, _TORCH)):
        return True
    if any(part in path for part in _INSTALLED):
        return bool(code.co_flags & 0x20)  # CO_GENERATOR: something around the loop
    return path.startswith(_STDLIB)


def user_line() -> str | None:
    """Return ``file.py:12`` of the user's nearest frame."""
    frame = user_frame()
    return None if frame is None else f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"


def place_of(function: Any) -> str | None:
    """Return ``file.py:12`` of a function of the user's; None for ours, torch's, an installed one's."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if not isinstance(code, CodeType) or _of_a_library(code) or code.co_filename.startswith("<"):
        return None
    if any(part in code.co_filename for part in _INSTALLED):
        return None
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def _short(path: str) -> str:
    relative = os.path.relpath(path) if os.path.isabs(path) and os.path.exists(path) else path
    return path if relative.startswith("..") else relative
