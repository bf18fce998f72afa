"""The observer: hooks report to it, listeners hear from it, and it can be taken out at any time.

A listener is any object with methods ``before_KIND(event)`` and ``after_KIND(event)`` (``events.PHASE_OF``
names the kinds); only the functions that somebody listens to are touched. Listeners run under one lock,
with what they do themselves unobserved, and with nothing that they raise reaching the program: the first
failure takes the observer out and is kept in ``failure``.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from loopwright.events import Event
from loopwright.observe.dynamo import Originals
from loopwright.observe.sites import Site, site
from loopwright.observe.swap import AttributePatch, CodeSwap, Patch, anything_compiled

Handler = Callable[[Event], None]
_set_eval_frame = torch._C._dynamo.eval_frame.set_eval_frame

PER_STEP = frozenset(
    (
        "forward",
        "loss",
        "backward",
        "grad",
        "zero_grad",
        "item",
        "format",
        "fetch",
        "clip",
        "scale",
        "unscale",
        "scaler_step",
        "step",
        "transfer",
        "write",
        "multiply",
        "add",
    )
)
"""Kinds that happen in every step: while the observer rests they are let through unseen."""
TICKS = frozenset(("forward", "backward", "grad", "step", "fetch"))
"""Of these, the ones whose hooks have something to do at rest: ticks, counted steps, an epoch's end."""
FIRST, WINDOW, PERIOD, THINNING = 2000, 100, 2048, 8
"""In ticks (calls of backward, and forwards of roots with weights; at rest only those without gradients, so
that the tutorial loop has two a step in a window and one at rest): everything is seen during the first ones,
and those after the first backward pass, then a window of each period, which becomes longer: a rest may last
for an eighth of what has passed. Rare events (a mode, an epoch, a new optimizer) open a window too, at the
counts 1, 2, 4, 8, ... of their place.
"""


class ThreadState(threading.local):
    """What is going on in one thread."""

    busy = False
    """A listener is at work: what it calls is its own."""
    depth = 0
    """How many modules' ``__call__`` are open."""
    inner: list[Any] | None = None
    """Where calls of inner modules are recorded, while somebody asks for them."""
    inner_call: Any = None
    """What is made of each: ``modules.InnerCall``, or another class with its two methods."""
    operations: list[Any] | None = None
    """What was called inside, while inner calls are recorded: ``operations.Operation``."""
    in_loss = False
    in_grad = False
    """Inside a transform of ``torch.func`` that takes gradients."""
    in_step = 0
    wakings = 0
    """Those of the observer at which this thread was last seen outside of all modules."""


class Observer:
    """One observation of this process, from ``install`` to ``uninstall``.

    Args:
        listeners: objects with ``before_KIND`` and ``after_KIND`` methods.
        steps: take everything out again after that many optimizer steps; None observes to the end.
        on_out: called once when the observer has been taken out by ``steps`` or by a failure.
    """

    active: Observer | None = None
    """The one that is installed; hooks of two would see each other."""

    def __init__(
        self,
        listeners: Sequence[Any],
        *,
        steps: int | None = None,
        on_out: Callable[[], None] | None = None,
    ):
        self.listeners = list(listeners)
        self.steps = steps
        self.on_out = on_out
        self.lock = threading.RLock()
        self.here = ThreadState()
        self.number = 0
        self.counts: dict[str, int] = {}
        self.failure: str | None = None
        self.resting = False
        self.wakings = 0
        self.ticks = self.evaluations = self.passes = 0
        self.recording: set[int] = set()
        """Threads in a forward whose inner calls are recorded."""
        self._turn_at = FIRST
        self._rare: dict[Any, int] = {}
        self._patches: list[Patch] = []
        self._resting: list[CodeSwap | AttributePatch] = []
        self.passing: list[AttributePatch] = []
        """Attributes that are there for the length of a recorded forward."""

    def handlers(self, when: str, kind: str) -> list[Handler]:
        """The listeners' methods for one kind; ``when`` is "before" or "after"."""
        name = f"{when}_{kind}"
        return [getattr(one, name) for one in self.listeners if hasattr(one, name)]

    def wanted(self, kind: str) -> bool:
        """True when somebody listens to this kind."""
        return bool(self.handlers("before", kind) or self.handlers("after", kind))

    def install(self) -> None:
        """Put the hooks in; torch must have been imported."""
        from loopwright.observe.points import install_points

        if Observer.active is not None:
            raise RuntimeError("this process is observed already")
        Observer.active = self
        try:
            for patch in install_points(self):
                self.add(patch)
            if self.wanted("forward") or any(
                isinstance(one, AttributePatch) for one in self._patches
            ):
                self.add(Originals(self.lifted))
        except BaseException:  # of any kind: torch must not stay half patched
            self.uninstall()
            raise

    def add(self, patch: Patch) -> None:
        """One more patch, also while observing (a class that appeared later)."""
        self._patches.append(patch)
        if isinstance(patch, CodeSwap | AttributePatch) and patch.rests:
            self._resting.append(patch)

    def uninstall(self) -> None:
        """Take every hook out, the last one first; a second call does nothing."""
        patches, self._patches, self._resting = self._patches, [], []
        for patch in reversed(patches):
            patch.restore()
        if Observer.active is self:
            Observer.active = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Attributes are the originals meanwhile: functions keep their identity, attributes do not."""
        there = [one for one in self._attributes() if one.there]
        for patch in reversed(there):
            patch.lift()
        try:
            yield
        finally:
            for patch in self._attributes():  # those that were taken out meanwhile stay out
                if patch in there:
                    patch.put()

    def _attributes(self) -> list[AttributePatch]:
        return [one for one in self._patches + self.passing if isinstance(one, AttributePatch)]

    @property
    def installed(self) -> bool:
        """True while hooks are in."""
        return Observer.active is self

    def event(
        self, kind: str, where: Site, subject: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Event:
        """A new event, numbered and counted."""
        self.number += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return Event(kind, where, self.number, subject, args, kwargs)

    def tell(self, handlers: Iterable[Handler], event: Event) -> None:
        """Run listeners; whatever they raise ends the observation, not the program."""
        here = self.here
        if here.busy:
            return
        here.busy = True
        # Where a compiled function runs on after a break, Dynamo would compile our listeners too (0.06 µs).
        compiler = _set_eval_frame(None)
        try:
            with self.lock:
                for handler in handlers:
                    handler(event)
        except Exception:  # noqa: BLE001  the program goes on, whatever is wrong with us
            self.fail(traceback.format_exc())
        finally:
            _set_eval_frame(compiler)
            here.busy = False

    def fail(self, what: str) -> None:
        """Take the observer out because of a failure of its own; the first one is kept."""
        if self.failure is None:
            self.failure = what
            print(
                "loopwright: the observer failed and has switched itself off; the program goes on",
                file=sys.stderr,
            )
        self.leave()

    def leave(self) -> None:
        """Take the observer out before the program's end."""
        was_in = self.installed
        self.uninstall()
        if was_in and self.on_out is not None:
            self.on_out()

    def tick(self) -> None:
        """One more forward or backward; now and then the observer falls asleep or wakes up."""
        self.ticks += 1
        if self.ticks >= self._turn_at and not self.recording:
            rest = max(PERIOD - WINDOW, self.ticks // THINNING)
            self._turn_at = self.ticks + (WINDOW if self.resting else rest)
            self._rest(not self.resting)

    def passed(self) -> None:
        """One more engine run; the first ones are seen however many forwards came before.

        An agent may act for thousands of steps before it learns.
        """
        self.passes += 1
        self.tick()
        if self.passes == 1:
            self._turn_at = max(self._turn_at, self.ticks + FIRST)
        if self.resting and self.passes & (self.passes - 1) == 0:
            self.wake()
            if self.passes == 1:
                self._turn_at = self.ticks + FIRST

    def rare(self, event: Event) -> None:
        """Something happened that is worth opening one's eyes for."""
        count = self._rare[event.kind, event.site] = self._rare.get((event.kind, event.site), 0) + 1
        if count & (count - 1):
            return
        self.wake()

    def wake(self) -> None:
        """See everything for a window."""
        if self.resting:
            self._turn_at = 0
            self._rest(False)
        self._turn_at = max(self._turn_at, self.ticks + WINDOW)

    def _rest(self, resting: bool) -> None:
        """Fall asleep, or wake up: hooks that only see are not there meanwhile (33 of 45 µs a step)."""
        self.resting = resting
        if not resting:
            self.wakings += 1
            for patch in self._resting:
                patch.put()
        elif not anything_compiled():  # Dynamo's guards would see them go
            for patch in self._resting:
                patch.lift()
        if not resting:
            self._woken()

    def _woken(self) -> None:
        for one in self.listeners:
            if hasattr(one, "woken"):
                one.woken()

    def stepped(self, total: int) -> None:
        """Count optimizer steps; the last one that was asked for ends the observation."""
        if self.steps is not None and total >= self.steps:
            self.leave()


def around(
    observer: Observer,
    kind: str,
    *,
    through_torch: bool = False,
    depth: int = 2,
    ticks: bool = False,
) -> Callable[[Any], Any]:
    """A hook that tells listeners before and after a call; its first argument is the subject.

    Args:
        observer: whom to tell.
        kind: of the events.
        through_torch: also calls that torch makes for the program; otherwise only direct ones.
        depth: frames between the hook and the program's call.
        ticks: a call is a tick.
    """
    before = observer.handlers("before", kind)
    after = observer.handlers("after", kind)
    here = observer.here
    compiling = torch.compiler.is_compiling
    per_step = kind in PER_STEP

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if compiling() or here.busy:
                return original(*args, **kwargs)
            if ticks:
                observer.passed()
            if observer.resting and per_step:
                return original(*args, **kwargs)
            where = site(depth, through_torch=through_torch)
            if where is None:
                return original(*args, **kwargs)
            event = observer.event(kind, where, args[0] if args else None, args, kwargs)
            if not per_step:
                observer.rare(event)
            if before:
                observer.tell(before, event)
            try:
                event.result = original(*args, **kwargs)
            except BaseException:  # the program's own, a Ctrl-C too: noted, and passed on
                event.failed = True
                observer.tell(after, event)
                raise
            observer.tell(after, event)
            return event.result

        return hook

    return make
