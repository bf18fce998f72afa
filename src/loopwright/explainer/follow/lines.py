"""Follows the program's own statements while they run, by Python's tracing.

Only frames of the program's own files are traced; a call of a library's function costs one dictionary look-
up. Code that runs hot before anything is trained (a tokenizer, a data set in Python) is let go after
``HOT`` statements, until an event of a step happens in a frame of it.

Tracing works on programs that were not changed and that run already, ``__main__`` included, which no import
hook can rewrite. It changes no value; in a function, a tensor that a variable lets go of is freed one
statement later, since Python keeps a copy of the variables for the trace function.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Protocol

from loopwright.explainer.follow.source import Loop, Source, Statement, source_of
from loopwright.explainer.times.owntime import OwnTime
from loopwright.observe.instructions import instructions
from loopwright.observe.sites import USER, kind_of

HOT = 20_000
INLINE = frozenset(("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"))
"""Frames of their own before Python 3.12, and still part of the statement that they stand in."""
NEXT = ("FOR_ITER", "GET_ANEXT")
OURS = 2
"""References to a frame that are ours: the activation's, and the one that counts them."""


class Code:
    """What is known about one code object."""

    __slots__ = ("again", "asleep", "code", "generator", "seen", "source")

    def __init__(self, code: CodeType, source: Source):
        self.again: dict[int, set[int]] = {}
        """Of each loop in one line, by its line: where its further turns begin."""
        self.code = code
        self.source = source
        self.seen = 0
        self.asleep = False
        self.generator = bool(code.co_flags & (0x20 | 0x80 | 0x200))

    def goes_on(self, statement: Statement, instruction: int) -> bool:
        """True where a loop in one line begins a further turn: no other line tells of it."""
        if not statement.loops or not statement.loops[-1].in_one_line:
            return False
        loop = statement.loops[-1]
        if loop.line not in self.again:
            self.again[loop.line] = _further_turns(self.code, loop)
        return instruction in self.again[loop.line]


def _further_turns(code: CodeType, loop: Loop) -> set[int]:
    """Where a jump back to the loop begins and ends: Python 3.13 tells of the one, others of the other.

    A comprehension in its line jumps back too, from Python 3.12 on.
    """
    every = list(instructions(code))
    named = {one.offset: one.opname for one in every}
    column = {
        one.offset: one.positions.col_offset or 0
        for one in every
        if one.positions is not None and one.positions.lineno == loop.line
    }
    jumps = [one for one in every if "BACKWARD" in one.opname and one.argval in column]
    if isinstance(loop.node, ast.While):
        chosen = [one for one in jumps if named[one.argval] not in NEXT]
    else:
        heads = [one.argval for one in jumps if column[one.argval] < loop.node.body[0].col_offset]
        own = max(heads, default=-1)  # comprehensions that it iterates over come before
        chosen = [one for one in jumps if one.argval == own]
    return {at for one in chosen for at in (one.offset, one.argval)}


class Activation:
    """One running call of the program's own code."""

    __slots__ = ("at", "code", "frame", "in_forward", "loops", "skipped", "statement", "visit")

    def __init__(self, frame: FrameType, code: Code):
        self.frame: FrameType | None = frame
        self.code = code
        self.statement: Statement | None = None
        self.loops: list[Any] = []
        """Turns of the loops that it is in, the outermost first."""
        self.visit: Any = None
        self.at = -1
        """The instruction that the statement began at."""
        self.in_forward = False
        self.skipped = False
        """Its statement is not recorded."""


class Listener(Protocol):
    """Who hears of statements; ``record.Recording``."""

    time: OwnTime

    def entered(self, activation: Activation) -> None:
        """A function of the program is called, or a generator goes on."""

    def left(self, activation: Activation) -> None:
        """It returns, raises or yields."""

    def statement(self, activation: Activation, statement: Statement) -> None:
        """A statement begins."""

    def turn_begins(self, activation: Activation, loop: Loop) -> None:
        """A turn of a loop begins."""

    def loop_left(self, activation: Activation, depth: int) -> None:
        """Loops end; ``depth`` are left."""


class Lines:
    """Tracing of one thread at a time, from ``begin`` to ``end``.

    Args:
        listener: who hears of statements.
        fail: what to do with an exception of ours.
        lock: held while anything here changes; the thread that trains may take over from another one.
    """

    def __init__(self, listener: Listener, fail: Callable[[BaseException], None], lock: Any):
        self.lock = lock
        self.listener = listener
        self.fail = fail
        self.codes: dict[CodeType, Code | None] = {}
        self.stack: list[Activation] = []
        self.generators: dict[int, Activation] = {}
        self.running = False
        self.thread = threading.get_ident()

    def begin(self, frame: FrameType | None) -> bool:
        """Trace this thread; False where something else traces it already."""
        if sys.gettrace() is not None:
            return False
        self.running = True
        self.listener.time.calibrate(self._call)
        self.resume(frame)
        sys.settrace(self._call)
        return True

    def mine(self) -> bool:
        """True in the thread that is followed."""
        return threading.get_ident() == self.thread

    def move(self, frame: FrameType | None) -> None:
        """Follow this thread instead, since it is the one that trains."""
        self.thread = threading.get_ident()
        self.stack.clear()
        self.generators.clear()
        self.begin(frame)

    def resume(self, frame: FrameType | None) -> None:
        """Trace the frames that run already, also those that were let go."""
        while frame is not None:
            if frame.f_trace is None or not frame.f_trace_lines:
                code = self._code(frame.f_code)
                if code is not None:
                    code.asleep = False
                    code.seen = 0
                    frame.f_trace = self._local
                    frame.f_trace_lines = True
            frame = frame.f_back

    def pause(self) -> bool:
        """Follow nothing until ``go_on``; False where it was so already."""
        if not self.running or sys.gettrace() != self._call:
            return False
        sys.settrace(None)
        return True

    def go_on(self) -> None:
        """Follow again; the frames that run have not been let go."""
        if self.running:
            sys.settrace(self._call)

    def end(self) -> None:
        """Trace nothing any more."""
        self.running = False
        sys.settrace(None)
        for activation in self.stack:
            if activation.frame is not None:
                activation.frame.f_trace = None
        self.stack.clear()
        self.generators.clear()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_trace == self._local:
                frame.f_trace = None
            frame = frame.f_back

    def _code(self, code: CodeType) -> Code | None:
        try:
            return self.codes[code]
        except KeyError:
            found = None
            if code.co_name not in INLINE and kind_of(code.co_filename) == USER:
                source = source_of(code)
                found = Code(code, source) if source is not None else None
            self.codes[code] = found
            return found

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002  its protocol
        if not self.running or not self.mine():
            return None
        code = self._code(frame.f_code)
        if code is None:
            self.listener.time.called()
            return None
        if code.asleep:
            return None
        try:
            with self.lock:
                if not self.mine():
                    return None
                self.listener.time.arrive()
                self._push(frame, code)
                self.listener.time.leave()
        except Exception as error:  # noqa: BLE001  the program goes on
            self._failed(error)
            return None
        return self._local

    def _push(self, frame: FrameType, code: Code) -> Activation:
        found = self.generators.get(id(frame)) if code.generator else None
        if found is None or found.code is not code:
            found = Activation(frame, code)
            if code.generator:
                self._forget_generators()
                self.generators[id(frame)] = found
        self.stack.append(found)
        self.listener.entered(found)
        return found

    def _forget_generators(self) -> None:
        """Those that ended: nobody but us holds their frame."""
        for key, one in list(self.generators.items()):
            if one not in self.stack and sys.getrefcount(one.frame) <= OURS:
                del self.generators[key]
                one.frame = None

    def _local(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002  its protocol
        if not self.running or not self.mine():
            return None
        try:
            with self.lock:
                if not self.mine():
                    return None
                self.listener.time.arrive()
                if event == "line":
                    self._line(frame)
                elif event == "return":
                    self._return(frame)
                self.listener.time.leave()
        except Exception as error:  # noqa: BLE001  the program goes on
            self._failed(error)
            return None
        return self._local

    def _line(self, frame: FrameType) -> None:
        stack = self.stack
        if not stack or stack[-1].frame is not frame:
            self._find(frame)
        activation = stack[-1]
        code = activation.code
        statement = code.source.by_line.get(frame.f_lineno)
        if statement is None:
            return
        before = activation.statement
        back = frame.f_lasti < activation.at
        activation.at = frame.f_lasti
        further = statement is before and code.goes_on(statement, frame.f_lasti)
        if statement is before and statement.heads is None and not further:
            return
        code.seen += 1
        if code.seen > HOT and not activation.loops:
            code.asleep = True
            frame.f_trace_lines = False
        if code.code.co_name != "<lambda>":  # its line may lie in a loop of the function around it
            self._loops(activation, before, statement, back=back, further=further)
        activation.statement = statement
        self.listener.statement(activation, statement)

    def _loops(
        self,
        activation: Activation,
        before: Statement | None,
        now: Statement,
        *,
        back: bool,
        further: bool,
    ) -> None:
        """Leave, enter and go on in loops; ``back`` is a jump to an earlier instruction."""
        active = activation.loops
        wanted = now.loops
        depth = 0
        while depth < len(active) and depth < len(wanted) and active[depth].loop is wanted[depth]:
            depth += 1
        if depth < len(active):
            self.listener.loop_left(activation, depth)
        for loop in wanted[depth:]:
            self.listener.turn_begins(activation, loop)
        if depth < len(wanted) or before is None or not wanted:
            return
        innermost = wanted[-1]
        again = now.heads is innermost and before is not now
        # The head of ``while True`` is compiled away: its turns begin with the body's first statement.
        # The end of a ``with`` comes back to its line too, but by no jump.
        again = again or (
            back
            and now.line == innermost.first
            and before.heads is not innermost
            and innermost in before.loops
        )
        again = again or (now.heads is innermost and before is now) or further
        if again:
            self.listener.turn_begins(activation, innermost)

    def _find(self, frame: FrameType) -> None:
        """Make the frame the innermost one; it may have been running before tracing began."""
        for depth in range(len(self.stack) - 1, -1, -1):
            if self.stack[depth].frame is frame:
                while len(self.stack) > depth + 1:
                    self._pop()
                return
        while self.stack and not _is_above(self.stack[-1].frame, frame):
            self._pop()
        code = self._code(frame.f_code)
        if code is not None:
            self._push(frame, code)

    def _return(self, frame: FrameType) -> None:
        if any(one.frame is frame for one in self.stack):
            while self.stack and self.stack[-1].frame is not frame:
                self._pop()
            if self.stack:
                self._pop()

    def _pop(self) -> None:
        activation = self.stack.pop()
        self.listener.left(activation)
        activation.statement = None if not activation.code.generator else activation.statement
        if not activation.code.generator:
            activation.frame = None

    def _failed(self, error: BaseException) -> None:
        self.running = False
        sys.settrace(None)
        self.fail(error)


def _is_above(outer: FrameType | None, frame: FrameType) -> bool:
    above: FrameType | None = frame
    while above is not None:
        if above is outer:
            return True
        above = above.f_back
    return False
