"""When a program that is explained has been seen enough, and how it is ended then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwright.explainer.record import Recording


class EndOfExplanation(SystemExit):
    """Ends the program at a statement of its own, once what was asked for has been recorded."""


def due(recording: Recording, *, at_statement: bool) -> bool:
    """True where the program is to be ended now; notes when everything that was asked for is there."""
    if recording.wait is None or recording.stopped or recording.over:
        return False
    if recording.finished_at is None:
        main = [one for one in recording.loops.values() if one.steps or one.backwards]
        if main and all(recording.policy.finished(one) for one in main):
            recording.finished_at = recording.clock()
        return False
    if recording.clock() - recording.finished_at < recording.wait * 1e9:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    return at_statement or recording.stretches.turn is not None
