"""Which line called: noted in about 0.3 µs, resolved to file, line and columns only for a message.

A frame's code object and ``f_lasti`` name the instruction; ``f_lineno`` would cost 13 µs in a function of
800 lines. Each place in a program becomes one ``Site``, so that accounts can count by place.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

USER, LIBRARY, TORCH, SKIP, TOP = 0, 1, 2, 3, 4
"""Whose file: the program's, an installed package's or Python's, torch's, a decorator's (never a caller), our
command line's (what is above it is not the program).
"""

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_OURS_USER = (os.path.join(_OURS, "recipes") + os.sep,)
_TOP = os.path.join(_OURS, "cli", "main.py")
_FOUND = importlib.util.find_spec("torch")  # looked up, not imported: the command line reads rules
_TORCH = os.path.dirname(os.path.abspath(_FOUND.origin or "")) + os.sep if _FOUND else os.devnull
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PATHS = ("stdlib", "platstdlib", "scripts")  # scripts: what pip makes of console entry points
PYTHONS = tuple(
    {os.path.realpath(sysconfig.get_paths()[name]) + os.sep for name in _PATHS}
    | {sysconfig.get_paths()[name] + os.sep for name in _PATHS}
)
_DECORATORS = tuple(
    os.path.join(_TORCH, *parts)
    for parts in (
        ("_compile.py",),
        ("distributed", "c10d_logger.py"),
        ("_dynamo", "eval_frame.py"),
        ("utils", "_contextlib.py"),
        ("autograd", "grad_mode.py"),
    )
)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a source file; lines and columns count from 1, the end column is excluded."""

    file: str
    line: int
    column: int = 1
    end_line: int = 0
    end_column: int = 0


@dataclass(slots=True, eq=False)
class Site:
    """One place that calls: the nearest caller that is not torch, and the nearest line of the program.

    They are the same place unless an installed library calls torch for the program.
    """

    code: CodeType
    instruction: int
    user: tuple[CodeType, int] | None
    """The nearest frame of the program's own files; None where there is none (a thread of a library)."""

    def position(self) -> Position:
        """Where a person would look: the program's own line if there is one."""
        return resolve(*(self.user or (self.code, self.instruction)))

    @property
    def by_library(self) -> bool:
        """True when an installed library made the call."""
        return self.user is None or self.user[0] is not self.code

    @property
    def by_us(self) -> bool:
        """True when Loopwright itself made the call, for a run of the program's."""
        name = self.code.co_filename
        return name.startswith(_OURS) and not name.startswith(_OURS_USER)


_kinds: dict[str, int] = {}
_sites: dict[tuple[int, int, int, int], Site] = {}


def kind_of(filename: str) -> int:
    """Whose file it is."""
    kind = _kinds.get(filename)
    if kind is None:
        kind = _kinds[filename] = _classify(filename)
    return kind


def _classify(filename: str) -> int:
    if filename.startswith(_DECORATORS):
        return SKIP
    if filename.startswith(_TORCH):
        return TORCH
    if filename == _TOP:
        return TOP
    if filename.startswith(_OURS) and not filename.startswith(_OURS_USER):
        return LIBRARY
    if filename.startswith("<frozen") or any(part in filename for part in INSTALLED):
        return LIBRARY
    if filename.startswith(("<__array_function__", "<eval_with_key>")):
        return LIBRARY
    return LIBRARY if filename.startswith(PYTHONS) else USER


def site(depth: int, *, through_torch: bool = False) -> Site | None:
    """The place ``depth`` frames above the caller of this function.

    Args:
        depth: 1 is the caller's caller.
        through_torch: look for the first caller that is not torch; otherwise a call that torch itself
            made has no site.

    Returns:
        None when torch itself called (or nothing but torch is above).
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None:
        code = frame.f_code
        kind = _kinds.get(code.co_filename)
        if kind is None:
            kind = kind_of(code.co_filename)
        if kind == USER:
            key = (id(code), frame.f_lasti, 0, 0)
            found = _sites.get(key)
            if found is None:
                found = _sites[key] = Site(code, frame.f_lasti, (code, frame.f_lasti))
            return found
        if kind in (LIBRARY, TOP):
            return _by_library(frame)
        if kind == TORCH and not through_torch:
            return None
        frame = frame.f_back
    return None


def site_of(frame: FrameType | None) -> Site | None:
    """The place where a frame of the program, or the nearest one above it, is; None without one."""
    found = user_frame(frame)
    if found is None:
        return None
    key = (id(found.f_code), found.f_lasti, 0, 0)
    known = _sites.get(key)
    if known is None:
        known = _sites[key] = Site(found.f_code, found.f_lasti, (found.f_code, found.f_lasti))
    return known


def makers(made: Any, kind: type) -> tuple[Site | None, Site | None]:
    """Where an object is made that is in its ``__init__`` now, and where in that of a ``kind`` around it.

    The first is the line that calls its class, however many classes of the program's own it is derived from.
    """
    frame: FrameType | None = sys._getframe(1)
    own = None
    for _ in range(200):
        if frame is None:
            break
        found = _initialised(frame)
        if found is made:
            own = frame
        elif own is not None and isinstance(found, kind):
            return site_of(own.f_back), site_of(frame)
        frame = frame.f_back
    return (site_of(own.f_back), None) if own is not None else (None, None)


def variables(frame: FrameType) -> dict[str, Any]:
    """Return what a frame's names mean.

    A module's are its globals. Python 3.12 gives an old copy of them from the moment on in which they were
    asked for inside a comprehension, whose own variables are the module's fast ones; 3.13 leaves some out.
    """
    hidden = frame.f_code.co_name == "<module>" and frame.f_code.co_varnames
    return frame.f_globals if hidden else frame.f_locals


def caller_outside(objects: set[int]) -> Site | None:
    """The nearest line of the program that is in no method of the objects with these ids."""
    frame = user_frame(sys._getframe(1))
    while frame is not None:
        code = frame.f_code
        own = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if id(own) not in objects:
            return site_of(frame)
        frame = user_frame(frame.f_back)
    return None


def _initialised(frame: FrameType) -> Any:
    """What a frame is the ``__init__`` of; None for other functions."""
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return None
    return frame.f_locals.get(code.co_varnames[0])


def known_codes() -> list[CodeType]:
    """The program's own code objects that some site lies in, in the order of first sight."""
    return list(dict.fromkeys(one.user[0] for one in _sites.values() if one.user is not None))


def _by_library(frame: FrameType) -> Site:
    above = user_frame(frame)
    user = (above.f_code, above.f_lasti) if above is not None else None
    key = (id(frame.f_code), frame.f_lasti, id(user[0]) if user else 0, user[1] if user else 0)
    found = _sites.get(key)
    if found is None:
        found = _sites[key] = Site(frame.f_code, frame.f_lasti, user)
    return found


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The nearest frame of the program's own files, ``frame`` included."""
    while frame is not None:
        kind = kind_of(frame.f_code.co_filename)
        if kind in (USER, TOP):
            return frame if kind == USER else None
        frame = frame.f_back
    return None


def stack(depth: int) -> list[tuple[CodeType, int, int]]:
    """The program's own frames from the outermost to the innermost: code, instruction, frame id."""
    frame: FrameType | None = sys._getframe(depth + 1)
    frames = []
    while frame is not None:
        kind = kind_of(frame.f_code.co_filename)
        if kind == TOP:
            break
        if kind == USER:
            frames.append((frame.f_code, frame.f_lasti, id(frame)))
        frame = frame.f_back
    return frames[::-1]


def after_in_loop(
    chain: list[tuple[CodeType, int, int]], step: list[tuple[CodeType, int, int]]
) -> bool:
    """True when ``chain`` is at a later instruction than ``step`` in the innermost frame that both share."""
    for (code, instruction, frame), (other, at, other_frame) in zip(chain, step, strict=False):
        if code is not other or frame != other_frame:
            return False
        if instruction != at:
            return instruction > at
    return False


def resolve(code: CodeType, instruction: int) -> Position:
    """File, line and columns of an instruction, from the code object's own table."""
    index = max(instruction, 0) // 2
    for number, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        if number == index and line is not None:
            return Position(
                code.co_filename,
                line,
                _characters(code.co_filename, line, column) + 1,
                end_line or line,
                _characters(code.co_filename, end_line or line, end_column) + 1,
            )
    return Position(code.co_filename, code.co_firstlineno)


def _characters(filename: str, line: int, offset: int | None) -> int:
    """Columns are counted in bytes of UTF-8 by Python, in characters by people."""
    if not offset:
        return 0
    import linecache

    text = linecache.getline(filename, line)
    return offset if text.isascii() else len(text.encode()[:offset].decode("utf-8", "replace"))
