"""The draws of data that draws while it is read: what a replay needs to draw the same again.

A stream (or a sampler of the user's) that draws from the process's generators at each batch shares them
with what the training draws in between, dropout on a CPU above all. Reading it again without that
training would draw other numbers. So the state of a generator is noted before each read that draws from
it after somebody else did; a read that goes on where the last one stopped needs no note.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from loopwright.train.process import randomness

if TYPE_CHECKING:
    from loopwright.train.run import Run

T = TypeVar("T")

LIMIT = 1000
"""Notes of one epoch, 5 kB each and in every checkpoint; beyond, going on inside it is not exact."""


class Draws:
    """Watches the reads of one epoch.

    Attributes:
        exact: a replay draws the same numbers; False once there were more notes than ``LIMIT``.
    """

    def __init__(self) -> None:
        self.exact = True
        self._notes: dict[int, dict[str, Any]] = {}
        self._replayed = randomness.snapshot()

    def watch(self, number: int, read: Callable[[], T]) -> T:
        """Read, and note what a replay of read ``number`` (from 0) needs to know beforehand."""
        before = randomness.snapshot()
        try:
            return read()
        finally:
            after = randomness.snapshot()
            for kind, state in before.items():
                if randomness.equal(state, after[kind]):
                    continue
                if not randomness.equal(state, self._replayed[kind]):
                    self._note(number, kind, state)
                self._replayed[kind] = after[kind]

    def _note(self, number: int, kind: str, state: Any) -> None:
        if sum(map(len, self._notes.values())) >= LIMIT:
            self.exact = False
        else:
            self._notes.setdefault(number, {})[kind] = state

    def replay(self, number: int, read: Callable[[], T]) -> T:
        """Read as read ``number`` was done."""
        randomness.restore(self._notes.get(number, {}))
        try:
            return read()
        finally:
            self._replayed = randomness.snapshot()

    def over(self, inner: Iterator[T], replayed: int = 0) -> Iterator[T]:
        """Iterate over ``inner``, the first ``replayed`` items as an earlier process did."""
        for number in itertools.count():
            read = self.replay if number < replayed else self.watch
            try:
                item = read(number, inner.__next__)
            except StopIteration:
                return
            yield item

    def state_dict(self) -> dict[str, Any]:
        """Return the notes."""
        return {"exact": self.exact, "notes": {n: dict(kinds) for n, kinds in self._notes.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the notes of an earlier process, for ``replay``."""
        self.exact = state["exact"]
        self._notes = {n: dict(kinds) for n, kinds in state["notes"].items()}


def watched(run: Run, fetch: Callable[[], Any]) -> Any:
    """Fetch ahead, and say so if that moved a random draw: the order is then not the plain loop's."""
    before = randomness.snapshot(run.device)
    fetched = fetch()
    if not randomness.same(before, randomness.snapshot(run.device)):
        run.note(
            "the data have no length and draw from the process's generators: each batch is drawn "
            "one turn before it is used, so random numbers come in another order than in a plain "
            "loop (give the loader a len(), or the data a generator of their own)"
        )
    return fetched
