"""Puts the line level and the event level together: what each statement did in each recorded turn.

Everything that happens between two boundaries (a statement begins, a function is entered or left, an event
has ended) belongs to the innermost statement that runs. At a boundary of a recorded turn the state is
compared with what it was at the last one; what that costs is taken out of all times.
"""

from __future__ import annotations

import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from loopwright.events import PHASE_OF, Event
from loopwright.events.explained import Effects, GraphNote, RuleNote, StateNote
from loopwright.explainer.again.whatif import Replays
from loopwright.explainer.effects import byhand, device, flags, graph
from loopwright.explainer.effects.calls import Calls
from loopwright.explainer.effects.memory import Memory
from loopwright.explainer.effects.names import Names
from loopwright.explainer.effects.printed import Printed
from loopwright.explainer.effects.saved import Held
from loopwright.explainer.effects.state import State
from loopwright.explainer.follow import apart, ending, source
from loopwright.explainer.follow.library import Stretches
from loopwright.explainer.follow.lines import Activation, Lines
from loopwright.explainer.follow.source import Loop, Source, Statement
from loopwright.explainer.follow.turns import DEEP, LIGHT, TIMED, LoopRecord, Policy, Turn
from loopwright.explainer.follow.visits import Visit, further
from loopwright.explainer.times import hooked
from loopwright.explainer.times.collector import Collector
from loopwright.explainer.times.owntime import OwnTime
from loopwright.explainer.times.tries import Tries, data_of
from loopwright.observe.sites import Site, user_frame
from loopwright.observe.watch import Observer

SETUP_VISITS, SETUP_MOST = 3, 4000
STEP_EVENTS = ("fetch", "zero_grad", "forward", "loss", "backward", "grad", "step")
ARMING = (*STEP_EVENTS, "transfer", "epoch", "optimizer")


class Recording:
    """One explanation of this process.

    Args:
        steps: turns of each loop that are recorded in full.
        timed: turns after them that are timed.
        budget: bytes for copies.
        wait: seconds that the program may go on after its training loop was recorded; None: to its end.
        whatifs: run a step again with changes.
        clock: that everything is timed by, in nanoseconds.
    """

    def __init__(self, *, steps: int = 3, timed: int = 20, budget: int = 1 << 27, wait: float | None = None,
                 whatifs: bool = True, clock: Callable[[], int] = time.perf_counter_ns):  # fmt: skip
        source.fresh()
        self.policy = Policy(steps, timed)
        self.budget, self.wait, self.clock = budget, wait, clock
        self.time = OwnTime(clock)
        self.calls = Calls(self)
        self.collector, self.printed = Collector(self), Printed(self)
        self.observer = Observer([self.calls], on_out=self.stop)
        self.lines = Lines(self, self._failed, self.observer.lock)
        self.state = State(budget)
        self.memory, self.marks = Memory(), graph.Marks()
        self.loops: dict[Any, LoopRecord] = {}
        self.kept: list[Turn] = []
        self.timed_turns: list[Turn] = []
        self.setup: list[Visit] = []
        self.sources: list[Source] = []
        self.stretches = Stretches(self)
        self.names = Names(self.state)
        self.replays = Replays(self) if whatifs else None
        self.tries = Tries(self)
        self.notes: list[str] = []
        self.armed = self.stale = self.stopped = self.over = False
        self.since_node = self._order = 0
        self.finished_at: tuple[int, int] | None = None
        self._visits: dict[int, int] = {}
        self.rank: int | None = None

    # beginning and end

    def start(self, *, outer: bool = True) -> None:
        """Observe and trace from here on; with ``outer``, the functions that run already too."""
        self.observer.install()
        self.collector.start()
        self.printed.start()
        hooked.calibrate(self.time)
        if not self.lines.begin(sys._getframe(1) if outer else None):
            self.notes.append(
                "the program is traced already (a debugger or a coverage tool), so there is no line level"
            )

    def stop(self) -> None:
        """Take everything out."""
        if self.over:
            return
        self.over = True
        self.collector.stop()
        self.printed.stop()
        self.observer.uninstall()
        self._close_all()
        self.lines.end()
        self._end_memory()

    def _failed(self, error: BaseException) -> None:
        self.observer.fail("".join(traceback.format_exception(error)))

    def _close_all(self) -> None:
        try:
            for activation in reversed(list(self.lines.stack)):
                self.left(activation)
            self.stretches.end()
        except Exception as error:  # noqa: BLE001  what was recorded until here is kept
            self.notes.append(f"the last turn is not complete: {error}")

    # what is current

    @property
    def turn(self) -> Turn | None:
        """The turn of the innermost loop that runs, forward functions left aside."""
        for activation in reversed(self.lines.stack):
            if activation.loops and not activation.in_forward:
                return activation.loops[-1]
        return self.stretches.turn

    @property
    def deep(self) -> bool:
        """True when what happens now is recorded in full."""
        turn = self.turn
        return turn is None or turn.mode == DEEP

    @property
    def times(self) -> bool:
        """True when calls are timed one by one, on the device too."""
        return (turn := self.turn) is not None and turn.mode != LIGHT

    def frame(self) -> Any:
        """The innermost frame of the program that is followed."""
        stack = self.lines.stack
        return stack[-1].frame if stack else user_frame(sys._getframe(2))

    def visit(self) -> Visit | None:
        """The statement that runs."""
        for activation in reversed(self.lines.stack):
            if activation.visit is not None:
                return activation.visit
        return None

    def skips(self) -> bool:
        """True while a statement runs that is not recorded; what it does is not its caller's doing."""
        return bool(self.lines.stack) and self.lines.stack[-1].skipped

    # boundaries

    def ours(self) -> AbstractContextManager[Any]:
        """A context in which allocations are ours."""
        return self.memory.ours()

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        """What is done inside is ours: it is neither observed nor counted as the program's memory."""
        busy, self.observer.here.busy = self.observer.here.busy, True
        try:
            with self.memory.ours():
                yield
        finally:
            self.observer.here.busy = busy

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Something of ours that takes its time."""
        began = self.clock()
        with self._unseen():
            yield
        self._resume(began)

    def boundary_inside(self, *, backward: bool = False) -> None:
        """Compare the state now, inside an event."""
        visit = self.visit()
        if visit is not None and visit.deep:
            self._compare(visit, backward=backward)

    def _compare(self, visit: Visit, *, backward: bool = False, leaves: bool = True) -> None:
        """Put what changed into a visit; what changed while nobody looked belongs to no statement."""
        effects = Effects() if self.stale else visit.effects
        self.stale = self.stale and not leaves
        self.state.changes(effects, backward=backward, leaves=leaves)
        byhand.in_own_lines(effects, self.lines.stack)

    def _boundary(self) -> None:
        now, took = self.time.taken()
        visit = self.visit()
        hidden = self.skips() or not self.deep  # then the visit is of a statement around
        if visit is not None:
            visit.own += took
            for activation in self.lines.stack:
                if activation.visit is not None:
                    activation.visit.total += took
            if visit.deep:
                in_forward = visit.activation.in_forward or self.observer.here.depth > 0
                if not hidden:  # 500 tokens generated inside a step took a minute
                    with self._unseen():
                        visit.effects.nodes += max(0, graph.next_number() - self.since_node)
                        self._compare(visit, leaves=not in_forward)
        self.stale = self.stale or hidden or visit is None or not visit.deep
        self._resume(now)

    def _resume(self, began: int) -> None:
        """From here on it is the program's time again."""
        self.since_node = graph.next_number()
        self.time.resume(began)

    def _segment(self, visit: Visit | None) -> None:
        """What follows belongs to ``visit``."""
        if visit is None or not visit.deep:
            return
        self.marks.begin(f"{visit.statement.source.number}:{visit.statement.line}")
        if self.memory.running:
            self.memory.mark(visit)

    # what the line level tells

    def entered(self, activation: Activation) -> None:
        """A function of the program is called."""
        stack = self.lines.stack
        above = stack[-2] if len(stack) > 1 else None
        activation.in_forward = self.observer.here.depth > 0
        if above is not None:
            activation.in_forward = activation.in_forward or above.in_forward
            activation.skipped = above.skipped
        stack.pop()
        try:
            self._boundary()
        finally:
            stack.append(activation)
        self._segment(activation.visit)

    def left(self, activation: Activation) -> None:
        """It returns, or a generator yields."""
        if activation.code.generator:
            self.lines.stack.append(activation)
            self._boundary()
            self.lines.stack.pop()
            self._segment(self.visit())
            return
        if activation not in self.lines.stack:
            self.lines.stack.append(activation)
        self._finish(activation)
        for turn in reversed(activation.loops):
            self.end_turn(turn)
        activation.loops = []
        self.lines.stack.remove(activation)
        self._segment(self.visit())

    def statement(self, activation: Activation, statement: Statement) -> None:
        """A statement begins."""
        self._finish(activation)
        self.may_stop(at_statement=True)
        file = statement.source
        if file.number < 0:
            file.number = len(self.sources)
            self.sources.append(file)
        turn = flags.turn_of(statement, self.turn)
        activation.skipped = True
        if turn is None:
            key = id(statement)
            self._visits[key] = self._visits.get(key, 0) + 1
            often = self._visits[key] > SETUP_VISITS and not flags.sets(statement)
            if often or len(self.setup) > SETUP_MOST:
                return
        elif turn.mode == LIGHT:
            self._order += 1
            activation.visit = further(self._order, activation, turn, self.time.since)
            return
        self.open(activation, statement, turn)
        if self.replays is not None and turn is not None and turn.mode == DEEP:
            with self.aside():
                self.replays.statement(activation, statement)

    def open(self, activation: Activation, statement: Statement, turn: Turn | None) -> None:
        """What follows is a run of the statement."""
        self._order += 1
        visit = Visit(self._order, statement, activation, turn, self.time.since)
        visit.grad_mode = torch.is_grad_enabled()
        stack = self.lines.stack
        for above in reversed(stack[: stack.index(activation)]):
            if above.visit is not None:
                above.visit.calls.append(visit)
                break
        activation.visit = visit
        activation.skipped = False
        if visit.deep and self.stale:
            with self.aside():
                self._compare(visit)
        if turn is None:
            self.setup.append(visit)
        else:
            turn.visits.append(visit)
        self._segment(visit)

    def _finish(self, activation: Activation) -> None:
        """The statement of a function that ran until now is done."""
        self._boundary()
        visit, activation.visit = activation.visit, None
        if visit is None or not visit.deep or activation.frame is None:
            return
        with self.aside():
            self.names.made(visit)

    def split(self) -> None:
        """End the visit that runs, so that its statement can have one in each turn."""
        if self.lines.stack:
            activation = self.lines.stack[-1]
            self._boundary()
            activation.visit = None

    def turn_begins(self, activation: Activation, loop: Loop) -> None:
        """A turn of a loop begins."""
        self._finish(activation)
        index = 1
        if activation.loops and activation.loops[-1].loop is loop:
            before = activation.loops.pop()
            index = before.index + 1
            self.end_turn(before, followed=True)
        self._begin_turn(activation, loop, index)

    def _begin_turn(self, activation: Activation, loop: Loop, index: int) -> None:
        began = self.clock()
        self.stretches.own_loop_begins()
        record, parent = self.loops.get(loop), self.turn
        if record is None:
            code, inside = activation.code, parent.record if parent is not None else None
            record = LoopRecord(loop, code.source, code.code.co_name, len(self.loops), inside)
            self.loops[loop] = record
        record = apart.expected(self, record, index)
        if index == 1:
            record.enters()
        mode = self.policy.mode(record, parent, index)
        record.turns += 1
        turn = Turn(loop, record, record.turns, index, mode, parent, began, -self.time.ours)
        turn.origin, turn.in_eval = began + turn.overhead, self.state.in_eval()
        turn.mark = device.mark() if mode != LIGHT else None
        activation.loops.append(turn)
        self.follow_memory(turn)
        if (not activation.in_forward and parent is None) or record.eventful:
            self.marks.clear()
        self._resume(began)

    def loop_left(self, activation: Activation, depth: int) -> None:
        """Loops end."""
        self._finish(activation)
        while len(activation.loops) > depth:
            turn = activation.loops.pop()
            self.end_turn(turn)
            self.tries.measure(turn.record)

    def end_turn(self, turn: Turn, *, followed: bool = False) -> None:
        """A turn is over: keep it, and ask what would have been."""
        turn.ended = self.clock()
        turn.overhead += self.time.ours
        apart.settle(self, turn)
        record = turn.record
        counted = turn.mode == LIGHT and turn.parent is not None and turn.parent.mode == TIMED
        if turn.found_nothing(followed=followed) and record.turns > 1 and not counted:
            record.turns -= 1  # the head's last visit, which found nothing more
            self.setup = turn.without_it(self.setup)
            return
        if turn.parent is not None:
            turn.parent.inner.append(turn)
        record.losses += turn.main_loss
        if turn.mode == DEEP:
            record.deep += 1
            record.deep_steps += turn.count("step") > 0
            record.moved += byhand.moves(turn)
            self.kept.append(turn)
            if self.replays is not None and not self.over:
                with self.aside():
                    self.replays.turn_ended(turn)
        elif turn.mode == TIMED:
            record.timed += 1
            self.timed_turns.append(turn)
            if record.timed == self.policy.timed:
                self.tries.measure(record)

    # memory

    def follow_memory(self, turn: Turn) -> None:
        """Count allocations in turns that are recorded in full."""
        wanted = self.armed and turn.mode == DEEP
        if wanted and not self.memory.running:
            self.memory.start()
        elif (
            not wanted
            and self.memory.running
            and (turn.parent is None or turn.parent.mode != DEEP or turn.record.eventful)
        ):
            self._end_memory()

    def _end_memory(self) -> None:
        with self.time.spent():
            self.memory.stop()

    # what the event level tells

    def hears(self, kind: str, event: Event) -> bool:
        """True when an event is to be noted; the first ones of a training arm what is costly."""
        if self.over:
            return False
        if not self.lines.mine():
            if self.armed or kind not in STEP_EVENTS:
                return False
            self.lines.move(sys._getframe(2))
        if kind in ARMING:
            if not self.armed:
                self.armed = True
                self.lines.resume(user_frame(sys._getframe(2)))
                if self.deep:
                    self.memory.start()
                    self._segment(self.visit())
            if kind in STEP_EVENTS:
                self.stretches.hears(kind, event)
        return True

    def happened(self, kind: str, event: Event) -> None:
        """Count an event in its turn."""
        turn = self.turn
        if turn is None or (kind == "fetch" and event.failed):
            return
        turn = turn.of_gradients() if kind == "step" else turn
        if kind in apart.LEARNING:
            apart.learns(self, turn)
        turn.events[kind] = turn.events.get(kind, 0) + 1
        record = turn.record
        if kind == "step" and not record.steps and record.timed:
            # Until now it filled a replay buffer, or waited for something else: no turn of a training.
            self.timed_turns = [one for one in self.timed_turns if one.record is not record]
            record.timed = record.deep = 0
        record.saw(kind)
        record.evaluates |= kind == "forward" and apart.evaluates(event.subject)
        if kind == "fetch" and record.data is None:
            record.data = data_of(event.subject)
        if kind == "step" and not any(one() is event.subject for one, _ in record.optimizers):
            name = self.names.optimizer(event.subject, self.frame())
            record.optimizers.append((weakref.ref(event.subject), name))

    def timed(self, kind: str, nanoseconds: int, span: device.Span | None) -> None:
        """Add to the phase of the statement that runs, and to the spans of its turn."""
        phase, turn, visit = PHASE_OF.get(kind), self.turn, self.visit()
        if phase is None or turn is None:
            return
        known = visit is not None and (visit.turn is turn or turn.mode == LIGHT)
        into = visit.phases if visit is not None and known else turn.phases
        into[phase] = into.get(phase, 0) + nanoseconds
        if span is not None and len(turn.spans) < device.MOST:
            span.phase = phase
            turn.spans.append(span)

    def note(self, kind: str, site: Site, facts: dict[str, Any], took: int = 0) -> None:
        """An event of a recorded turn, and the nanoseconds that it took."""
        visit = self.visit()
        if visit is not None and not self.skips():
            visit.note(kind, site, facts, took)

    def graph(self, note: GraphNote, held: list[Held]) -> None:
        """A graph, described before it was run backward, and the storages that it kept."""
        turn = self.turn
        if turn is not None:
            turn.graphs.append(note)
            turn.held += held
            if self.replays is not None:
                self.replays.backward_ended(turn, note.value)

    def rule(self, note: RuleNote) -> None:
        """An update, written out."""
        turn = self.turn
        if turn is not None:
            turn.rules.append(note)

    def optimizer_state(self, note: StateNote | None) -> None:
        """State of an optimizer after its step."""
        visit = self.visit()
        if note is not None and visit is not None and not self.skips():
            visit.effects.state.append(note)

    # the end

    def may_stop(self, *, at_statement: bool = False) -> None:
        """End the program when everything that was asked for is there."""
        if ending.due(self, at_statement=at_statement):
            self.stopped = True
            self.stop()
            raise ending.EndOfExplanation(0)
