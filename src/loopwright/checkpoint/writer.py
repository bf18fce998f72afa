"""One job at a time on a background thread; its error comes up at the next call."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import thread_time


class Writer:
    """Runs jobs one after the other, at most one in flight.

    The thread is kept from one job to the next: waiting for a new one to be scheduled costs up to
    4 ms on a busy machine. A program that ends waits for the job that is in flight.

    Attributes:
        seconds: of a processor's time that the last job took.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._job: Future[object] | None = None
        self.seconds = 0.0

    def start(self, job: Callable[[], object]) -> None:
        """Run a job in the background, after the one before it has ended.

        Raises:
            BaseException: what the job before failed with; the new job is not started then.
        """
        self.wait()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="loopwright-checkpoint")
        try:
            self._job = self._threads.submit(self._timed, job)
        except RuntimeError:
            # The interpreter is shutting down (or threads have run out): write here and now.
            job()

    def _timed(self, job: Callable[[], object]) -> None:
        started = thread_time()
        job()
        self.seconds = thread_time() - started

    @property
    def busy(self) -> bool:
        """Whether a job is in flight."""
        return self._job is not None and not self._job.done()

    def wait(self) -> None:
        """Wait for the job in flight; raises what it failed with, once."""
        if self._job is None:
            return
        self._job.exception()  # waits; a Ctrl-C here leaves the job to the next call
        job, self._job = self._job, None
        job.result()

    def close(self) -> None:
        """Wait, then end the thread; raises what the job in flight failed with."""
        try:
            self.wait()
        finally:
            if self._threads is not None:
                self._threads.shutdown()
                self._threads = None
