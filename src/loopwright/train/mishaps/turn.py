"""The facts of the turn in which an exception left a loop, added to that exception as notes.

The exception of a for body does not pass through the loop's generator, which only learns that it is
closed, and where (see ``leaving``). From Python 3.12 on the exception can be found from there: its
traceback refers to the frame. Before, it may not be an object yet while the frame is left; then it is
told when it comes by: at the end of a ``with run:`` block, of ``lw.fit``, or as the program's last.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from loopwright import uncaught
from loopwright.errors import LoopwrightError
from loopwright.train.display.telling import of_loop, saved_state
from loopwright.train.mishaps import describe, memory
from loopwright.train.mishaps.fetching import sequential
from loopwright.train.mishaps.hints import hint_for

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run
    from loopwright.train.step import Step

HINT = "hint: "
"""How the note begins that says what to do."""

_pending: list[Mishap] = []


class Mishap:
    """What is known of the exception that left a frame, until it is told.

    Args:
        run: whose loop was left.
        lines: the facts.
        indices: of the samples in the batch, None where nobody knows them.
        frame: where the for loop stands.
    """

    def __init__(self, run: Run, lines: list[str], indices: Any, frame: FrameType):
        self.lines = lines
        self.indices = indices
        self._run = weakref.ref(run)
        # Not the frame itself: it holds every local of the user's.
        self._at: tuple[int, CodeType, int] = (id(frame), frame.f_code, frame.f_lasti)

    def belongs_to(self, error: BaseException) -> bool:
        """Whether an exception came through the frame that was left, at that instruction."""
        trace = error.__traceback__
        while trace is not None:
            if (id(trace.tb_frame), trace.tb_frame.f_code, trace.tb_lasti) == self._at:
                return True
            trace = trace.tb_next
        return False

    def tell(self, error: BaseException) -> None:
        """Add the facts to the exception, and its words to the run's outcome."""
        run = self._run()
        add_notes(error, self.lines, run, self.indices)
        if run is not None and run.outcome.kind == "failed" and run.outcome.error is None:
            run.lifecycle.failed(error)


def body_left(loop: Loop, step: Step, frame: FrameType) -> None:
    """Note that an exception left the body of a turn, and tell it where it can be found."""
    known = describe.samples(loop.source.indices)
    inside = "; ".join(x for x in (describe.batch(step.batch), known) if x)
    lines = [
        f"in turn {step.index + 1}, epoch {step.epoch + 1}{of_loop(loop)}, on a batch of {inside}"
    ]
    _note(Mishap(loop.run, [*lines, *saved_state(loop.run)], loop.source.indices, frame), frame)


def evaluation_left(run: Run, source: Any, batch: Any, number: int, frame: FrameType) -> None:
    """Note that an exception left the body of an evaluation."""
    indices = sequential(source.loader, number - 1)
    inside = "; ".join(x for x in (describe.batch(batch), describe.samples(indices)) if x)
    lines = [f"in an evaluation, on batch {number} of {inside}"]
    _note(Mishap(run, lines, indices, frame), frame)


def between_turns(loop: Loop, error: BaseException) -> None:
    """Tell an exception that came out of the loop itself: the data's, a callback's, the disk's."""
    ended = loop.turn > 0 and loop.source.position == 0
    lines = [f"after turn {loop.turn}, epoch {loop.epoch + (not ended)}{of_loop(loop)}"]
    if loop.turn == 0:
        lines = [f"before the first turn{of_loop(loop)}"]
    add_notes(error, [*lines, *saved_state(loop.run)], loop.run, loop.source.next_up)


def tell(error: BaseException) -> None:
    """Tell an exception what is pending about it, if it is the one."""
    for mishap in list(_pending):
        if mishap.belongs_to(error):
            _pending.remove(mishap)
            mishap.tell(error)


def add_notes(error: BaseException, lines: list[str], run: Run | None, indices: Any) -> None:
    """Add facts, the largest tensors where memory was short, and a hint, once."""
    if not isinstance(error, Exception) or isinstance(error, LoopwrightError):
        return
    if lines[0] in getattr(error, "__notes__", ()):
        return
    notes = getattr(error, "__notes__", [])
    hints = [note for note in notes if note.startswith(HINT)]
    if memory.out_of_memory(error) and not hints:
        lines = [*lines, *memory.table(run)]
    if not hints and (hint := hint_for(error, indices)) is not None:
        hints = [HINT + hint]
    error.__notes__ = [*(note for note in notes if note not in hints), *lines, *hints]


def _note(mishap: Mishap, frame: FrameType) -> None:
    """Tell the exception if it can be found; else keep the mishap until it comes by.

    An evaluation inside a turn is left before the turn is: its mishap waits for the same exception.
    """
    before = _pending[-1:]
    _pending.clear()
    error = _exception_at(frame)
    if error is None:
        _pending.extend([*before, mishap])
        _hook()
        return
    for one in (*before, mishap):
        if one is mishap or one.belongs_to(error):
            one.tell(error)


# -- the exception -------------------------------------------------------------------------------


def _exception_at(frame: FrameType) -> BaseException | None:
    """Return the exception that is leaving a frame, where it can be found."""
    traces: list[TracebackType] = [
        x for x in gc.get_referrers(frame)
        if isinstance(x, TracebackType) and x.tb_frame is frame and x.tb_lasti == frame.f_lasti
    ]  # fmt: skip
    for trace in list(traces):
        below = trace.tb_next
        while below is not None:
            traces.append(below)
            below = below.tb_next
    for found in gc.get_referrers(*traces) if traces else ():
        if isinstance(found, BaseException) and found.__traceback__ in traces:
            return found
    return None


def _hook() -> None:
    """Tell what is pending to the exception that ends the program, just before it is printed."""
    uncaught.install()
    before: Callable[..., Any] = sys.excepthook
    if getattr(before, "of_mishaps", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell(error)
        before(kind, error, trace)

    hook.of_mishaps = True  # type: ignore[attr-defined]
    sys.excepthook = hook
