"""When a program that has been seen enough is ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loopwright.explainer.follow import ending
from loopwright.explainer.follow.turns import LoopRecord, Policy
from loopwright.explainer.times.owntime import OwnTime

SECOND = 10**9


@pytest.fixture
def recording():
    """A recording that has all it wants, by a clock that stands still; the program may go on for 10 s."""
    clock = SimpleNamespace(now=0)
    loop = LoopRecord(None, None, "", 0, steps=3, deep=3, deep_steps=3, timed=20)
    return SimpleNamespace(
        clock=lambda: clock.now, at=clock, time=OwnTime(lambda: clock.now), policy=Policy(3, 20), wait=10,
        loops={"one": loop}, finished_at=None, stopped=False, over=False,
        stretches=SimpleNamespace(turn=None),
    )  # fmt: skip


def due(recording, *, own, ours):
    """Whether it is ended after so many more seconds of the program's own, and of ours."""
    recording.at.now += (own + ours) * SECOND
    recording.time.ours += ours * SECOND
    return ending.due(recording, at_statement=True)


def test_the_wait_is_of_the_programs_own_time(recording):
    """Where half of the time is the recording's, the program still gets its ten seconds."""
    assert not due(recording, own=0, ours=0)
    assert not due(recording, own=6, ours=6)
    assert not due(recording, own=3, ours=3)
    assert due(recording, own=2, ours=0)


def test_but_it_is_bounded_by_the_clock(recording):
    """Where nearly all of it is the recording's, three times the wait is enough."""
    assert not due(recording, own=0, ours=0)
    assert not due(recording, own=1, ours=25)
    assert due(recording, own=1, ours=5)


def test_nothing_ends_inside_a_librarys_statement(recording):
    """It is ended at a statement of its own."""
    assert not due(recording, own=0, ours=0)
    recording.at.now += 20 * SECOND
    assert not ending.due(recording, at_statement=False)
    assert ending.due(recording, at_statement=True)
