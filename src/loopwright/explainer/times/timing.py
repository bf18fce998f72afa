"""Where a step goes, from turns that were timed and not otherwise looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loopwright.events import PHASES
from loopwright.events.explained import SeldomNote, TimingNote
from loopwright.explainer.effects import byhand, device
from loopwright.explainer.follow.turns import DEEP, LoopRecord, Turn
from loopwright.explainer.times.advice import advise

OWN = "own Python"
UPDATES = frozenset(("zero_grad", "backward", "step"))
LEAST = 0.02
"""Share of a step from which what happens now and then is told by itself."""


def measure(recording: Any, numbers: dict[int, int]) -> list[TimingNote]:
    """One note for each loop that holds steps or evaluations."""
    found = []
    settled = device.settle()
    hand = _by_hand(recording)
    for record in recording.loops.values():
        if id(record) not in numbers or not record.eventful:
            continue
        turns = [turn for turn in recording.timed_turns if turn.record is record and turn.events]
        recorded = not turns
        if recorded:
            turns = [turn for turn in recording.kept if turn.record is record and turn.mode == DEEP]
        if turns:
            for turn in turns:
                turn.spans = sorted(_spans(turn, set(numbers)), key=lambda span: span.began)
            note = _of(turns, numbers[id(record)], set(numbers), hand, recorded=recorded)
            near = min(turns, key=lambda turn: abs(_seconds(turn) - note.seconds))
            if settled:
                note.device = device.phases(turns)
                note.waits = device.waits(turns)
                note.timeline = device.timeline(near)
                _told_by_events(recording, record, device.waits(turns, by_line=True))
            note.advice = advise(note, record, recording, turns)
            found.append(note)
    return found


def _by_hand(recording: Any) -> dict[str, str]:
    """``"file:line"`` of statements that are a phase by what they do -> the phase."""
    return {
        f"{visit.statement.source.number}:{visit.statement.line}": phase
        for turn in recording.kept
        for visit in turn.visits
        for phase in byhand.phases(visit)
    }


def _told_by_events(recording: Any, record: Any, waits: dict[str, list[float]]) -> None:
    """Give events of recorded turns what calls at their places waited and copied in timed ones.

    In a recorded turn our own looks have waited for the device already.
    """
    for turn in recording.kept:
        if turn.record is not record:
            continue
        for visit in turn.everything():
            for event in visit.events:
                found = waits.get(f"{visit.statement.source.path}:{event.line}")
                if found is not None and event.kind in ("item", "transfer"):
                    event.facts["waited"], event.facts["copied_in"] = found


def _of(
    turns: list[Turn], number: int, shown: set[int], hand: dict[str, str], *, recorded: bool
) -> TimingNote:
    """Medians line by line, of each phase on each line; a step is the sum of its lines.

    The median of whole turns would count what other programs on the machine took in one line or another as
    the time of none.
    """
    costs = _costs(turns, shown, hand)
    apart = [one for one in _now_and_then(costs, len(turns)) if not one.updates]
    typical = _sum(costs, {place for one in apart for place in one.places}, len(turns))
    # What costs next to nothing is no word of its own: it counts on average.
    apart = [one for one in apart if one.took / len(turns) >= LEAST * typical.seconds]
    typical = _sum(costs, {place for one in apart for place in one.places}, len(turns))
    seldom = [one.note(costs) for one in sorted(apart, key=lambda one: -one.took)]
    return TimingNote(number, len(turns), typical.seconds, typical.phases, typical.lines,
                      recorded=recorded, seldom=seldom)  # fmt: skip


Place = tuple[int, str]
"""A loop and ``"file:line"``: a function that training and validation both call has lines in each."""


@dataclass(slots=True)
class Cost:
    """Seconds of one line in one turn: its own, and of calls of each phase with all that they call."""

    own: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)

    def add(self, own: float, phases: dict[str, int]) -> None:
        """A visit more; nanoseconds."""
        self.own += own / 1e9
        for name, took in phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + took / 1e9


Costs = dict[Place, dict[int, Cost]]
"""Of each line, by the number of the turn in which it ran."""


def _costs(turns: list[Turn], shown: set[int], hand: dict[str, str]) -> Costs:
    found: Costs = {}

    def at(record: LoopRecord, place: str, turn: int) -> Cost:
        return found.setdefault((id(record), place), {}).setdefault(turn, Cost())

    for number, turn in enumerate(turns):
        for visit in _visits(turn, shown):
            inside = visit.turn or turn
            key = f"{visit.statement.source.number}:{visit.statement.line}"
            phases = visit.phases
            if key in hand:  # no call is known for it: what the statement takes beside other phases
                called = sum(one.total for one in visit.calls if not one.activation.in_forward)
                rest = max(0, visit.total - called - sum(phases.values()))
                phases = {**phases, hand[key]: phases.get(hand[key], 0) + rest}
            at(inside.record, key, number).add(visit.own, phases)
            if visit.statement.heads is not None and visit.statement.heads is turn.loop:
                at(inside.record, key, number).phases["fetch"] = visit.total / 1e9
        for inside in _turns(turn, shown):
            if inside.phases:
                at(inside.record, "", number).add(0, inside.phases)
    return found


@dataclass(slots=True)
class _Seldom:
    """Lines that ran in the same few turns."""

    turns: frozenset[int]
    places: list[Place]
    took: float
    updates: bool
    """A part of a step that not every turn has: the optimizer's, after accumulating."""

    def note(self, costs: Costs) -> SeldomNote:
        times = len(self.turns)
        lines: dict[str, float] = {}
        phases: dict[str, float] = {}
        for place in self.places:
            for cost in costs[place].values():
                if place[1]:
                    lines[place[1]] = lines.get(place[1], 0.0) + cost.own / times
                for name, one in cost.phases.items():
                    phases[name] = phases.get(name, 0.0) + one / times
        phases[OWN] = self.took / times - sum(phases.values())
        return SeldomNote(times, self.took / times, _worth(phases), lines)


def _now_and_then(costs: Costs, turns: int) -> Iterator[_Seldom]:
    groups: dict[frozenset[int], list[Place]] = {}
    for place, each in costs.items():
        if len(each) <= turns / 2:
            groups.setdefault(frozenset(each), []).append(place)
    for when, places in groups.items():
        all_of_it = [cost for place in places for cost in costs[place].values()]
        updates = any(name in UPDATES for cost in all_of_it for name in cost.phases)
        called = sum(sum(one.phases.values()) for one in all_of_it)
        took = max(called, sum(one.own for one in all_of_it))
        yield _Seldom(when, places, took, updates)


def _sum(costs: Costs, without: set[Place], turns: int) -> TimingNote:
    """A typical turn."""
    lines: dict[str, float] = {}
    middle = dict.fromkeys(PHASES, 0.0)
    for place, each in costs.items():
        if place in without:
            continue
        parts = {name: [one.phases.get(name, 0.0) for one in each.values()]
                 for name in dict.fromkeys(name for one in each.values() for name in one.phases)}  # fmt: skip
        # A line that updates in one turn of four has a fourth of that, and so in all of its times.
        on_average = any(_seldom(found, turns) for found in parts.values())
        for name, found in parts.items():
            middle[name] += _middle(found, turns, on_average=on_average)
        if place[1]:
            own = _middle([one.own for one in each.values()], turns, on_average=on_average)
            lines[place[1]] = lines.get(place[1], 0.0) + own
    total = max(sum(lines.values()), sum(middle.values()))
    middle[OWN] = total - sum(middle.values())
    return TimingNote(0, turns, total, _worth(middle), lines)


def _worth(phases: dict[str, float]) -> dict[str, float]:
    return {name: one for name, one in phases.items() if one >= 1e-9}  # what is less is rounding


def _seconds(turn: Turn) -> float:
    return (turn.ended - turn.began - turn.overhead) / 1e9


def _seldom(found: list[float], turns: int) -> bool:
    return sum(one > 0 for one in found) <= turns / 2


def _middle(found: list[float], turns: int, *, on_average: bool) -> float:
    """The median; the mean of what does not happen in most turns (a step after accumulating)."""
    return sum(found) / turns if on_average or _seldom(found, turns) else median(found)


def _inner(turn: Turn, shown: set[int]) -> list[Turn]:
    """Turns of loops that are part of the step; a loop that is shown by itself is timed by itself."""
    return [one for one in turn.inner if id(one.record) not in shown]


def _visits(turn: Turn, shown: set[int]) -> list[Any]:
    apart = {id(visit) for record, visit in turn.further.items() if id(record) in shown}
    own = [visit for visit in turn.visits if id(visit) not in apart]
    return [*own, *(v for inner in _inner(turn, shown) for v in _visits(inner, shown))]


def _turns(turn: Turn, shown: set[int]) -> list[Turn]:
    return [turn, *(one for inner in _inner(turn, shown) for one in _turns(inner, shown))]


def _spans(turn: Turn, shown: set[int]) -> list[Any]:
    """Calls of the turn, those of its micro-batches included."""
    return [*turn.spans, *(span for one in _inner(turn, shown) for span in _spans(one, shown))]
