"""Warnings name the line that they name without us: frames of hooks are not counted.

A library says with ``stacklevel`` how many frames above it the program stands. Between a function of torch
and its caller stand two more while it is observed: our hook and the function's exchanged code.
``warnings.warn`` stays what it is, because ``torch.jit`` and Dynamo know it by identity; so filters see the
hook's module.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from loopwright.observe.swap import PREFIX

HERE = str(Path(__file__).parent)


class Warned:
    """A patch: as long as it is in, warnings are shown with the place that they would have without hooks."""

    def __init__(self) -> None:
        before = self.before = warnings.showwarning

        def show(
            message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
        ) -> None:  # fmt: skip
            meant = _meant(sys._getframe(1), filename, lineno)
            if meant is not None:
                filename, lineno, line = meant.f_code.co_filename, meant.f_lineno, None
            before(message, category, filename, lineno, file, line)

        self.show = warnings.showwarning = show

    def restore(self) -> None:
        """Put back what was there, unless the program has put in something of its own."""
        if warnings.showwarning is self.show:
            warnings.showwarning = self.before


def _meant(frame: FrameType | None, filename: str, lineno: int) -> FrameType | None:
    """The frame as many levels above the named one as hooks were counted below it; None if none was."""
    ours = 0
    while frame is not None:
        ours += _is_ours(frame)
        if frame.f_code.co_filename == filename and frame.f_lineno == lineno:
            break
        frame = frame.f_back
    if not ours:
        return None
    while frame is not None and ours:
        frame = frame.f_back
        ours -= frame is not None and not _is_ours(frame)
    return frame


def _is_ours(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_filename.startswith(HERE) or any(
        name.startswith(PREFIX) for name in code.co_names
    )
