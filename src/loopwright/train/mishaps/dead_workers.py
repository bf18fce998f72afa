"""A DataLoader worker that died: how, by what signal, and what to do about it."""

from __future__ import annotations

import re
import signal
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from loopwright.errors import DataError
from loopwright.train.mishaps import describe

if TYPE_CHECKING:
    from loopwright.train.data.source import Source

WAIT_S = 2.0
"""How long a worker may take to end after its connection was lost."""

_DEAD = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\) "
    r"(?:is killed by signal: (?P<signal>[^.]+)|exited unexpectedly)"
)


def dead_worker(
    error: BaseException, source: Source | None = None, where: str | None = None
) -> DataError | None:
    """Return what there is to say of a DataLoader worker that died; None for another error.

    torch may raise this at any line of the main process: it hears of it by a signal.

    Args:
        error: anything.
        source: whose worker it was, where that is known.
        where: the place of the data set's code.
    """
    pids = _pids(error, source)
    if not pids:
        return None
    code, pid = _exit_code(pids, source)
    if code is None:
        code = _said(str(error))
    known = None if source is None else describe.samples(source.next_up)
    doing = f" while {known} were next" if known else ""
    how, hint = _cause(code)
    return DataError(
        f"a DataLoader worker (process {pid}) {how}{doing}", slug="worker-died", where=where, hint=hint,
    )  # fmt: skip


def _pids(error: BaseException, source: Source | None) -> list[int]:
    """Return the processes that an error speaks of; empty for an error of another kind."""
    found = _DEAD.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is not None:
        return [int(pid) for pid in found["pids"].split(",")]
    workers = [] if source is None else getattr(source.iterator, "_workers", [])
    if not workers or not isinstance(error, (OSError, EOFError)) or "Caught" in str(error):
        return []
    # A batch was on its way through a socket of a worker that has gone, or is just going.
    closed = wait([worker.sentinel for worker in workers], timeout=WAIT_S)
    for worker in workers:
        if worker.sentinel in closed:  # its files are; the process itself ends a moment later
            worker.join(WAIT_S)
    return [worker.pid for worker in workers if worker.exitcode not in (None, 0)]


def _said(text: str) -> int | None:
    """Return how a worker ended by torch's own words, as an exit code."""
    if found := re.search(r"exit code (\d+)", text):
        return int(found[1])
    found = _DEAD.search(text)
    return None if found is None or found["signal"] is None else _number_of(found["signal"])


def _exit_code(pids: list[int], source: Source | None) -> tuple[int | None, int]:
    iterator = None if source is None else source.iterator
    for worker in getattr(iterator, "_workers", ()):
        if worker.pid in pids:
            worker.join(1.0)
            if worker.exitcode not in (None, 0):
                return worker.exitcode, worker.pid
    return None, pids[0]


def _number_of(words: str) -> int | None:
    for one in signal.Signals:
        if signal.strsignal(one) == words.strip():
            return -one
    return None


def _cause(code: int | None) -> tuple[str, str]:
    """Return how a worker ended and what to do, by its exit code (``-n`` for signal n)."""
    if code is None or code >= 0:
        how = "ended" if code is None else f"ended with exit code {code}"
        return (
            how,
            "sys.exit() or os._exit() in the data set ends a worker: raise an exception instead",
        )
    number = -code
    how = f"was ended by {signal.Signals(number).name}"
    if number == signal.SIGKILL:
        return how, (
            "the kernel does this when memory runs out: fewer workers, a smaller prefetch_factor or batch "
            "size, or data that is not copied into each worker"
        )
    if number == signal.SIGBUS:
        return how, (
            "shared memory (/dev/shm) is full: fewer workers, or in a container more of it "
            "(docker run --shm-size=8g)"
        )
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return how, "something outside of this program ended it"
    return how, "a library that the data set calls has crashed: num_workers=0 shows in which line"
