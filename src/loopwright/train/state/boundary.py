"""The state between two turns, for a turn that does not come to its end.

A checkpoint is always the state at a turn's boundary. When an exception leaves the body, or a signal
comes during a validation inside of it, the last boundary lies at the turn's beginning. Until the turn's
update nothing of it is lost but what is noted here: generators, buffers (BatchNorm moves them in the
forward pass), the position in the data. What moves is noted at each turn; what has stood still so far is
compared when it matters, and where it has moved after all the boundary is unknown and not saved.

A turn that validates after its update (the last of an epoch, as a rule) would have lost its beginning:
before such a turn a copy of the whole state is kept in memory. It serves until the next boundary is noted,
so also when the end of the epoch fails: between its last turn and the end of its callbacks lies no boundary.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.data import attributes
from loopwright.train.process import randomness
from loopwright.train.state import saving

if TYPE_CHECKING:
    from loopwright.checkpoint.store import Held
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run
    from loopwright.train.step import Step

FIRST = 2
"""Turns, and epochs, after each of which it is looked what has moved."""
SELDOM = 0.5
"""Seconds after which it is looked again at an epoch's end."""
SHARE = 0.02
"""Of the time between two copies of the whole state that one may cost."""
APART = 0.5
"""Seconds between two copies, at least: beside its own 2 ms a small one costs what the caches forget."""
SMALL = 1 << 20
"""Bytes of a user's tracked state up to which it is copied at each turn, once it is seen to move."""


class Watched:
    """One thing that may move in a turn: noted at each one as soon as it was seen to move once."""

    def __init__(self, read: Callable[[], Any], same: Callable[[Any, Any], bool]):
        self._read = read
        self._same = same
        self.moves = False
        self.noted: Any = read()

    def note(self) -> None:
        """Note it, at a boundary; called where it moves."""
        self.noted = self._read()

    def settle(self) -> None:
        """See whether it has moved, at a boundary."""
        if not self.moves and not self._same(now := self._read(), self.noted):
            self.moves, self.noted = True, now

    def known(self) -> bool:
        """Whether ``noted`` is what it was at the last boundary."""
        return self.moves or self._same(self._read(), self.noted)


class Buffers:
    """The buffers of all models; those that move are copied in one call (1.7 µs for a BatchNorm)."""

    def __init__(self, models: dict[str, torch.nn.Module]):
        self._models = models
        unique = {id(b): b for _, _, b in self._all()}
        self._still = [(b, b.detach().clone()) for b in unique.values()]
        self._moving: list[Tensor] = []
        self._copies: list[Tensor] = []

    def _all(self) -> list[tuple[str, str, Tensor]]:
        return [
            (key, name, buffer)
            for key, model in self._models.items()
            for name, buffer in model.named_buffers(remove_duplicate=False)
        ]

    def note(self) -> None:
        """Note the moving ones."""
        if self._moving:
            torch._foreach_copy_(self._copies, [b.detach() for b in self._moving])

    def settle(self) -> None:
        """See which have moved."""
        still = []
        for buffer, noted in self._still:
            if _equal(buffer, noted):
                still.append((buffer, noted))
            else:
                self._moving.append(buffer)
                self._copies.append(noted.copy_(buffer))
        self._still = still

    def known(self) -> bool:
        """Whether ``noted`` are the buffers of the last boundary."""
        ours = {id(b) for b in self._moving} | {id(b) for b, _ in self._still}
        return {id(b) for _, _, b in self._all()} == ours and all(_equal(*x) for x in self._still)

    def noted(self) -> dict[str, dict[str, Tensor]]:
        """Return model name -> buffer name -> content at the last boundary."""
        copies = {id(b): c for b, c in zip(self._moving, self._copies, strict=True)}
        copies |= {id(b): c for b, c in self._still}
        found: dict[str, dict[str, Tensor]] = {key: {} for key in self._models}
        for key, name, buffer in self._all():
            if id(buffer) in copies:
                found[key][name] = copies[id(buffer)]
        return found

    def put_back(self) -> None:
        """Give the buffers the content that they had at the last boundary.

        One that moves for the first time gets the content from when it stood still.
        """
        with torch.no_grad():
            for buffer, noted in zip(self._moving, self._copies, strict=True):
                buffer.copy_(noted)
            for buffer, noted in self._still:
                if not _equal(buffer, noted):
                    buffer.copy_(noted)

    @contextlib.contextmanager
    def as_noted(self) -> Iterator[None]:
        """Have the buffers of the last boundary in the models for the length of a block."""
        now = [(buffer, buffer.detach().clone()) for _, _, buffer in self._all()]
        self.put_back()
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, content in now:
                    buffer.copy_(content)


class Boundary:
    """Notes, turn by turn, for one loop."""

    def __init__(self, loop: Loop):
        run = loop.run
        self._loop, self._run = loop, run
        self.buffers = Buffers(run.models)
        self.device = run.device
        self._quiet = loop.source.quiet
        self.body_random = self._random = randomness.torchs(run.device)
        self.turn = self.epoch = -1
        self._turns = 0
        self._counts = (0, 0)
        self._best: dict[str, Any] = {}
        self._watched = {
            "python": Watched(random.getstate, randomness.equal),
            "data": Watched(loop.source.own.capture, attributes.same),
            "models": Watched(run.own.capture, attributes.same),
            "user": Watched(partial(_users, run), _equal_trees),  # no method: a cycle
        }
        if (numpy := sys.modules.get("numpy")) is not None:
            self._watched["numpy"] = Watched(numpy.random.get_state, randomness.equal)
        self._moving: list[Watched] = []
        self.held: Held | None = None
        self._saved_turn = -1
        self._evaluations: list[int] = []
        self._hold_cost = 0.0
        self._began = self._settled = perf_counter()
        self._epochs = 0

    # -- turn by turn --------------------------------------------------------------------------

    def note(self) -> None:
        """Note the boundary (3 µs where little moves).

        Called before each turn's batch is fetched, and after an epoch's end.
        """
        loop, run = self._loop, self._run
        if loop.source.position == loop.source.length:
            return  # the epoch's end is still to come
        self._random = randomness.torchs(self.device)
        self.turn, self.epoch, self.held = loop.turn, loop.epoch, None
        self._turns += 1
        self._counts = (loop.samples, loop.tokens)
        best = run.best
        self._best = {name: dict(value) for name, value in best.items()} if best else {}
        for watched in self._moving:
            watched.note()
        self.buffers.note()
        loop.source.mark()
        run.stepper.untouched = True

    def note_body(self) -> None:
        """Note the generators as the body finds them, after its batch was fetched."""
        if self._quiet and self._loop.source.position > 1:
            self.body_random = self._random  # only an epoch's first fetch draws
        else:
            self.body_random = randomness.torchs(self.device)

    @property
    def is_new(self) -> bool:
        """Whether so few turns were seen that most of what moves was not yet seen to."""
        return self._turns <= FIRST

    def epoch_ended(self) -> None:
        """See what has moved, after the first epochs and now and then: an epoch may be 10 ms."""
        self._epochs += 1
        if self._epochs <= FIRST or perf_counter() - self._settled >= SELDOM:
            self.settle()

    def settle(self) -> None:
        """See what has moved; called at boundaries: after the first turns, and now and then (200 µs)."""
        self._settled = perf_counter()
        for watched in self._watched.values():
            watched.settle()
        self._moving = [watched for watched in self._watched.values() if watched.moves]
        self.buffers.settle()

    # -- the state -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        """Return the state at the last boundary; None where it is not known to the last bit."""
        loop, run = self._loop, self._run
        turn = loop.base + loop.turn
        untouched = run.stepper.untouched and self._best == run.best
        if self.turn != loop.turn or not untouched or loop.values.latest_turn > turn:
            return None
        if not loop.source.marked:
            return None
        if not self.buffers.known() or not all(w.known() for w in self._watched.values()):
            return None
        if self._watched["user"].noted is None:
            return None
        loop.values.forget_after(turn)
        loop.flush()
        run.stepper.close_fresh_windows(loop.turn)
        state = saving.collect(run, loop, None)
        saving.with_buffers(state, self.buffers.noted())
        state["loop"]["samples"], state["loop"]["tokens"] = self._counts
        state["loop"]["source"], start = loop.source.state_at_mark()
        state |= self._watched["user"].noted
        state["own"] = self._watched["models"].noted
        state["random"] = {**self._random, "python": self._watched["python"].noted}
        if "numpy" in self._watched:
            state["random"]["numpy"] = self._watched["numpy"].noted
        if start is not None:
            state["random"] |= start
        else:
            state["loop"]["source"]["own"] = self._watched["data"].noted
        return state

    # -- turns that validate ---------------------------------------------------------------------

    def saved(self) -> None:
        """Note that the boundary where the loop stands is in the folder."""
        self._saved_turn = self._loop.turn

    def is_saved(self) -> bool:
        """Whether the last boundary is in the folder."""
        return self._saved_turn == self._loop.turn

    def evaluated(self) -> None:
        """Note that this turn validates."""
        if not self._evaluations or self._evaluations[-1] != self._loop.turn:
            self._evaluations = [*self._evaluations[-1:], self._loop.turn]

    def hold_if_it_validates(self, step: Step) -> None:
        """Keep a copy of the whole state in memory before a turn that is expected to validate.

        An epoch's last turn and the run's last turn are; others by the distance of the two before.
        Passed over where the copies would cost more than ``SHARE`` of the time, ``APART`` apart, and where
        memory is short.
        """
        turn = self._loop.turn
        if self._run.files is None or self._saved_turn == turn:
            return
        expected = step.ends_epoch or step.ends_run
        if len(self._evaluations) == 2:
            first, second = self._evaluations
            expected = expected or turn == 2 * second - first
        now = perf_counter()
        cost = self._hold_cost
        apart = now - self._began
        if not expected or cost > SHARE * apart or (cost and apart < APART):
            return
        state = self.state()
        if state is not None and 2 * _bytes(state) < _free_memory():
            self.held = self._run.files.hold(state)
        self._began = perf_counter()
        self._hold_cost = self._began - now


def _users(run: Run) -> Any:
    """Return what the user keeps and tracks; copies, unless it is large."""
    state = {"kept": dict(run.kept)}
    state["tracked"] = {name: thing.state_dict() for name, thing in run.tracked.items()}
    return copy.deepcopy(state) if _bytes(state) <= SMALL else None


def _equal(buffer: Tensor, noted: Tensor) -> bool:
    if buffer.shape != noted.shape or buffer.dtype != noted.dtype or buffer.device != noted.device:
        return False
    if buffer.layout != torch.strided:
        return False
    return torch.equal(buffer, noted) or attributes.same(buffer.detach(), noted)  # nan is nan


def _equal_trees(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and _equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(
            _equal_trees(value, b[key]) for key, value in a.items()
        )  # fmt: skip
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal_trees, a, b))
    if hasattr(a, "shape"):  # a numpy array
        return hasattr(b, "shape") and a.shape == b.shape and bool((a == b).all())
    return type(a) is type(b) and a == b


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return int(getattr(value, "nbytes", 0)) or (
        len(value) if isinstance(value, (str, bytes)) else 32
    )


def _free_memory() -> float:
    """Return the bytes of the host's memory that are free; where the system does not say, all."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
