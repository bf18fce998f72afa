"""What a run says of itself where progress is shown: that it begins, goes on, ends, and where it is kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loopwright.errors import LoopwrightError
from loopwright.train.display.progress import number

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run


def say(run: Run, text: str) -> None:
    """Write a line where progress is shown: above the bar, while there is one."""
    if not run.progress:
        return
    if run.active is None or run.active.progress is None:
        print(text, file=sys.stderr, flush=True)
    else:
        run.active.progress.line(text)


def begins(run: Run, loop: Loop, *, resumed: bool) -> None:
    """Say which folder a run begins in, or goes on in, and where."""
    if resumed:
        run.line(f"resumed at turn {loop.turn} (epoch {loop.epoch + 1}) in {run.folder}")
    elif run.files is not None and not run.files.begun:
        run.line(f"new run in {run.folder}")


def had_ended(run: Run, loop: Loop) -> None:
    """Say that there is nothing to do, and what to write where there is."""
    run.line(
        f"{run.folder}{of_loop(loop)}: had ended after {loop.turn} turns; nothing to do "
        '(more epochs or steps extend it, resume="never" begins anew)'
    )


def ended(run: Run, loop: Loop, how: str) -> None:
    """Say how a loop has ended, and where its report is; the command line has a summary for that."""
    if run.summarised or (run.files is None and how != "stop"):
        return
    page = f"; report: {run.folder / 'report.html'}" if run.folder is not None else ""
    run.line(f"{run.outcome.kind}{of_loop(loop)}: {run.outcome.reason}{page}")


def tested(run: Run, results: dict[str, float], *, best: bool) -> None:
    """Say what the test data gave; the command line has a summary for that."""
    if not run.summarised:
        words = "  ".join(f"{name} {number(value)}" for name, value in results.items())
        run.line(f"tested{' with the best weights' if best else ''}: {words}")


def saved_state(run: Run) -> list[str]:
    """Return what the same command would go on from; nothing where nothing was trained."""
    if run.files is None:
        return [] if not run.totals.get("turns") else ["nothing was saved: the run has no out="]
    try:
        rows = run.files.rows()
    except LoopwrightError as error:  # the write that was under way
        return [f"not saved: {error.what}"]
    if not rows:
        return []
    state = f"after turn {rows[-1].turn}" if rows[-1].turn else "at the start"
    return [f"saved in {run.folder}: the state {state}; the same command goes on from there"]


def of_loop(loop: Loop) -> str:
    """Return which loop, where a run has several."""
    return "" if loop.name == "0" else f" of loop {loop.name}"
