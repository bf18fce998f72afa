"""How a plain ``python`` prints an exception that nobody caught: without the lines that are ours.

An error of ours is about a line of the user's program: that line is the traceback's last, and not the
five below it that found the mistake. The hook is set when the first such error is made, and only where
Python's own hook still stands: a debugger's or the program's is left alone, and the exception itself
keeps its whole traceback. A notebook asks the exception how it is to be shown.
``LOOPWRIGHT_TRACEBACK=1`` shows everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

THROUGH = tuple(
    f"{os.path.dirname(os.__file__)}{os.sep}{name}" for name in ("concurrent", "contextlib")
)
"""Python's own files that a future or a context manager of ours goes through."""
OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
EVERYTHING = "LOOPWRIGHT_TRACEBACK"

Hook = Callable[[type[BaseException], BaseException, "TracebackType | None"], object]


def install() -> None:
    """Set the hook, where Python's own is still in place."""
    if sys.excepthook is sys.__excepthook__ and not os.environ.get(EVERYTHING):
        sys.excepthook = hook


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception as Python does, its traceback without our lines."""
    with _without_ours(error, trace) as shown:
        sys.__excepthook__(kind, error, shown)


def in_notebook(error: BaseException) -> list[str]:
    """Return how a notebook's shell draws an exception, without our lines."""
    shell = sys.modules["IPython"].get_ipython()
    trace = error.__traceback__
    if os.environ.get(EVERYTHING):
        return shell.InteractiveTB.structured_traceback(type(error), error, trace, tb_offset=1)
    with _without_ours(error, trace) as shown:
        return shell.InteractiveTB.structured_traceback(type(error), error, shown, tb_offset=1)


@contextmanager
def _without_ours(
    error: BaseException, trace: TracebackType | None
) -> Iterator[TracebackType | None]:
    """Take our lines out of an exception, and out of what it was raised from, while it is printed."""
    whole = error.__traceback__
    cause, context, quiet = error.__cause__, error.__context__, error.__suppress_context__
    told = _is_told(error, trace)
    shown = outside(trace) if told else trace
    before = nearest = _before(error)
    while told and before is not None and outside(before.__traceback__) is None:
        before = _before(before)  # what we found out on the way: the error says it in words
    try:
        error.__traceback__ = shown
        if before is not nearest:
            error.__cause__, error.__context__ = None, before
            error.__suppress_context__ = False
        if before is None:
            yield shown
        else:
            with _without_ours(before, before.__traceback__):
                yield shown
    finally:
        error.__traceback__, error.__cause__, error.__context__ = whole, cause, context
        error.__suppress_context__ = quiet


def _before(error: BaseException) -> BaseException | None:
    """Return what Python prints before an exception."""
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def _is_told(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether our lines say nothing: not so where the mistake may be ours."""
    if outside(trace) is None:
        return False
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return True
    if any(base.__module__.startswith("loopwright.") for base in type(error).__mro__):
        return True
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not _is_ours(trace)


def outside(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without our lines and Python's between them; None where no other is left."""
    kept: list[TracebackType] = []
    between: list[TracebackType] = []
    after_ours = False
    while trace is not None:
        if _is_ours(trace):
            after_ours, between = True, []
        elif after_ours and trace.tb_frame.f_code.co_filename.startswith(THROUGH):
            between.append(trace)
        else:
            kept += [*between, trace]
            after_ours, between = False, []
        trace = trace.tb_next
    kept += between
    shown = None
    for one in reversed(kept):
        shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _is_ours(trace: TracebackType) -> bool:
    # "<string>" is the __init__ that a dataclass of ours has.
    code = trace.tb_frame.f_code
    made_by_us = trace.tb_frame.f_globals.get("__name__", "").startswith("loopwright.")
    return code.co_filename.startswith(OURS) or (code.co_filename == "<string>" and made_by_us)
