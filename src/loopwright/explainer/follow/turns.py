"""Which turns of which loops are recorded in full, which are timed, and what each loop is.

Every loop is recorded from its first turn on, since what is born in a training (gradients, an optimizer's
state) is born there, and what a loop does is known only at its end. A loop that turns out to hold events of
a step has a quota; one without (``for p in parameters``) goes with the turn that it runs in.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from loopwright.events.explained import LoopKind
from loopwright.explainer.follow.source import Loop, Source

DEEP, TIMED, LIGHT = "deep", "timed", "light"
MOST_DEEP = 32
"""Turns without a step of an optimizer (accumulation) that are recorded while waiting for one."""
INNER = 64
"""Turns of a loop inside a recorded turn that are recorded."""


@dataclass(slots=True, eq=False)
class LoopRecord:
    """A loop and what was seen of it."""

    loop: Loop | None
    source: Source | None
    function: str
    number: int
    inside: LoopRecord | None = None
    turns: int = 0
    entered: int = 0
    deep: int = 0
    timed: int = 0
    steps: int = 0
    backwards: int = 0
    forwards: int = 0
    fetches: int = 0
    deep_steps: int = 0
    moved: int = 0
    """Recorded turns in which parameters moved without any optimizer."""
    optimizers: list[Any] = field(default_factory=list)
    """Weak references to those that made a step in it, with their names."""
    losses: list[float] = field(default_factory=list)
    loss_site: Any = None
    """Where backward is called on the loss that ``losses`` are of: the first one in its first turn."""
    passes: list[int] = field(default_factory=list)
    """Where in ``losses`` each of its passes begins."""
    learns_in_eval: bool = False
    """Its models are in eval mode while they train: the mode says nothing of what a turn is for."""
    evaluates: bool = False
    """A model was called in it without gradients or in eval mode; a policy that collects episodes is not."""
    evaluated: dict[tuple[bool, bool], bool] = field(default_factory=dict)
    """Whether a turn evaluated, by the mode that it began in and whether it was the first of a pass."""
    by_library: str = ""
    data: Any = None
    """Where its batches come from, as ``tries`` describes it."""
    tried: dict[str, Any] | None = None
    """What ``tries`` measured, by the kind of change."""

    def enters(self) -> None:
        """A pass over it begins."""
        self.entered += 1
        if not self.passes or self.passes[-1] != len(self.losses):
            self.passes.append(len(self.losses))

    def saw(self, kind: str, count: int = 1) -> None:
        """An event happened directly in it."""
        self.steps += count * (kind == "step")
        self.backwards += count * (kind in ("backward", "grad"))
        self.forwards += count * (kind == "forward")
        self.fetches += count * (kind == "fetch")

    @property
    def kind(self) -> LoopKind:
        """What the loop is for, as far as it is known."""
        if self.steps or (self.backwards and self.moved):
            return "training"
        if self.backwards:
            return "gradients"
        if self.forwards:
            return "evaluation" if self.evaluates or self.by_library else "forward"
        return "plain"

    @property
    def eventful(self) -> bool:
        """True once something of a step happened directly in it."""
        return bool(self.steps or self.backwards or self.forwards or self.fetches)


@dataclass(slots=True, eq=False)
class Turn:
    """One turn of a loop, from its head to before its next head."""

    loop: Loop | None
    record: LoopRecord
    number: int
    index: int
    """Since the loop was entered this time, from 1."""
    mode: str
    parent: Turn | None
    began: int
    """Nanoseconds."""
    overhead: int = 0
    """Nanoseconds of ours in it."""
    ended: int = 0
    visits: list[Any] = field(default_factory=list)
    inner: list[Turn] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    main_loss: list[float] = field(default_factory=list)
    """The last one of the place that the loop's losses are of."""
    graphs: list[Any] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)
    """Storages that its graphs kept, with when they did."""
    rules: list[Any] = field(default_factory=list)
    phases: dict[str, int] = field(default_factory=dict)
    """Nanoseconds of calls that no statement of the program's is known for."""
    whatifs: list[Any] = field(default_factory=list)
    not_replayed: str = ""
    left_out: list[str] = field(default_factory=list)
    """What-ifs that were not asked, and why."""
    in_eval: bool = False
    """The models that learn were in eval mode when it began."""
    evaluated: bool = False
    """Models were called in it, without gradients and in eval mode."""
    entered: bool = False
    """The first statement of its body has begun."""
    start: Any = None
    """What ``replay`` kept of its beginning."""
    origin: int = 0
    """When it began, in the program's own time: the clock without what was ours."""
    spans: list[Any] = field(default_factory=list)
    further: dict[LoopRecord, Any] = field(default_factory=dict)
    """Of a timed turn: the visit that all further turns of a loop inside are counted in."""
    mark: Any = None
    """Of its beginning, in the device's queue."""

    @property
    def in_a_step(self) -> bool:
        """True where its loop, or one around it, holds something of a step."""
        return self.record.eventful or (self.parent is not None and self.parent.in_a_step)

    def found_nothing(self, *, followed: bool) -> bool:
        """True for the head's last visit, where there was nothing more to go through."""
        if self.events or self.inner:
            return False
        if self.loop is None or not self.loop.in_one_line:
            return len(self.visits) <= 1
        return not followed and self.index > 1 and not isinstance(self.loop.node, ast.While)

    def without_it(self, setup: list[Any]) -> list[Any]:
        """Visits of the program's beginning without the one of this turn, which found nothing more."""
        last = setup[-1].statement.loops[-1:] if setup else ()
        here = self.loop is not None and self.loop.in_one_line and last == (self.loop,)
        return setup[:-1] if here else setup

    def had(self, loss: float, site: Any) -> None:
        """Backward begins with a loss, at a place."""
        self.losses.append(loss)
        self.record.loss_site = self.record.loss_site or site
        if site is self.record.loss_site:
            self.main_loss = [loss]

    def everything(self) -> list[Any]:
        """Its visits and those of turns inside, in order."""
        found = list(self.visits)
        for one in self.inner:
            found += one.everything()
        return sorted(found, key=lambda visit: visit.order)

    def of_gradients(self) -> Turn:
        """The turn whose gradients a step uses: ``for one in optimizers: one.step()`` is a part of it."""
        turn: Turn | None = self
        while turn is not None and not (turn.count("backward") or turn.count("grad")):
            turn = turn.parent
        return turn or self

    def count(self, kind: str) -> int:
        """How many events of a kind happened in it and in turns inside."""
        return self.events.get(kind, 0) + sum(one.count(kind) for one in self.inner)


class Policy:
    """How many turns of each loop are looked at.

    Args:
        steps: turns that are recorded in full.
        timed: turns after them that are timed.
    """

    def __init__(self, steps: int, timed: int):
        self.steps = steps
        self.timed = timed

    def mode(self, record: LoopRecord, parent: Turn | None, index: int) -> str:
        """What to do with the turn of ``record`` that begins now."""
        inside_deep = parent is not None and parent.mode == DEEP
        if inside_deep and parent is not None and parent.record.steps and index <= INNER:
            return DEEP
        if parent is not None and parent.mode == TIMED and parent.record.steps and not record.steps:
            return (
                TIMED if index <= INNER else LIGHT
            )  # a part of the step, as its micro-batches are
        if not record.eventful and record.turns:
            if parent is None:
                return DEEP if record.turns < self.steps else LIGHT
            return parent.mode if index <= INNER else LIGHT
        if inside_deep and record.entered <= 1 and not record.steps and index <= 8:
            return DEEP
        if not self.enough(record):
            return DEEP
        return TIMED if record.timed < self.timed else LIGHT

    def enough(self, record: LoopRecord) -> bool:
        """True when the loop has been recorded as often as was asked for, with a step among it."""
        if record.deep < self.steps:
            return False
        steps = record.deep_steps or record.moved
        return not record.backwards or steps > 0 or record.deep >= MOST_DEEP

    def finished(self, record: LoopRecord) -> bool:
        """True when a loop needs no further look."""
        return self.enough(record) and record.timed >= self.timed
