"""The program's own time is what is left of the clock; nothing is counted twice."""

from __future__ import annotations

import sys

from loopwright.explainer.times.owntime import OwnTime


class Clock:
    """Time that goes on only when it is told to."""

    now = 0

    def __call__(self):
        return self.now


def test_between_two_statements():
    """What runs from one ``leave`` to the next ``arrive`` is the program's, the rest ours."""
    clock = Clock()
    own = OwnTime(clock)
    clock.now = 70  # the program's
    own.arrive()
    clock.now = 100
    began, took = own.taken()
    assert (began, took) == (70, 70)
    clock.now = 130
    own.resume(began)
    clock.now = 150
    assert own.taken() == (130, 0)  # further boundaries at the same statement
    own.leave()
    assert own.ours == 80
    clock.now = 155
    own.arrive()
    own.leave()  # a line of the same statement: no boundary
    clock.now = 165
    own.arrive()
    assert own.taken()[1] == 15
    own.leave()
    assert clock.now - own.ours == 70 + 15


def test_ours_inside_the_programs():
    """What an event's listener spends is taken out of the stretch that it lies in, once."""
    clock = Clock()
    own = OwnTime(clock)
    clock.now = 10
    with own.spent():
        clock.now = 40
    since = own.mark()
    own.ours += 2  # a part of the next five
    clock.now = 45
    own.spend(since)
    clock.now = 60
    own.arrive()
    with own.spent():
        clock.now = 90
    assert own.taken()[1] == 60 - 30 - 5
    own.leave()
    assert own.ours == 30 + 5 + 30


def test_the_gap_is_taken_out():
    """What tracing costs between two statements is measured, and never makes a time negative."""
    before = sys.gettrace()
    own = OwnTime(Clock())
    own.calibrate(lambda *_: None)
    assert sys.gettrace() is before
    assert (own.gap, own.call) == (0, 0)
    own.gap = 7
    own.clock.now = 5
    own.arrive()
    assert own.taken()[1] == 0


def test_calls_that_are_not_followed():
    """Each is as much as was measured, but for those that are ours anyway."""
    clock = Clock()
    own = OwnTime(clock)
    own.call = 3
    clock.now = 20
    own.called()
    own.arrive()
    own.called()
    assert own.taken()[1] == 17
    own.leave()
    since = own.mark()
    own.called()
    clock.now = 30
    own.spend(since)
    assert own.ours == 3 + 10
