"""When a program that is explained has been seen enough, and how it is ended then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


SLOWEST = 3
"""How many times the wait may be gone by on the clock, where much of it is ours or another process's."""


class EndOfExplanation(SystemExit):
    """Ends the program at a statement of its own, once what was asked for has been recorded."""


def due(recording: Recording, *, at_statement: bool) -> bool:
    """True where the program is to be ended now; notes when everything that was asked for is there.

    The wait is of the program's own time: what following it takes is not taken from what it may still show.
    """
    if recording.wait is None or recording.stopped or recording.over:
        return False
    if recording.finished_at is None:
        main = [one for one in recording.loops.values() if one.steps or one.backwards]
        if main and all(recording.policy.finished(one) for one in main):
            recording.finished_at = recording.time.now(), recording.clock()
        return False
    own, passed = recording.time.now(), recording.clock()
    wait = recording.wait * 1e9
    if own - recording.finished_at[0] < wait and passed - recording.finished_at[1] < SLOWEST * wait:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    return at_statement or recording.stretches.turn is not None
