"""A loop's beginning, checkpoints and end for one rank among several: decided by all or by the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from loopwright.errors import StateError
from loopwright.parallel import current
from loopwright.parallel.apart import spread
from loopwright.parallel.arrival import Arrival, arrival_of
from loopwright.parallel.wrapping import guard, let_take_buffers, takes_buffers
from loopwright.train.callsite import user_line
from loopwright.train.lifecycle import Lifecycle
from loopwright.train.process import randomness
from loopwright.train.ranks.states import gathered
from loopwright.train.state import saving
from loopwright.train.state.boundary import Boundary

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.ranks.loop import LoopOverRanks
    from loopwright.train.ranks.parts import OverRanks
    from loopwright.train.run import Run
    from loopwright.train.step import Step


class LifecycleOverRanks(Lifecycle):
    """What a run does around its loops, on every rank at the same turn."""

    def __init__(self, run: Run):
        super().__init__(run)
        self._parts: OverRanks = run.parts  # type: ignore[assignment]
        self._world = self._parts.world
        self._guards: list[Any] = []
        self._size_before = 0
        self._begun_alone = False
        self._take_buffers: dict[str, Any] = {}
        self._arrivals: dict[str, Arrival] = {}
        self._arrived: dict[str, list[str]] = {}
        self.awaited: list[Arrival] = []
        """Orders of gradients that no turn has shown yet."""
        self._late = False

    def _take_up(self, state: dict[str, Any]) -> None:
        self._size_before = state["ranks"]["size"]
        self._begun_alone = self._size_before == 1 and "share" not in state["loop"]["source"]
        self._take_buffers = state["ranks"]["take_buffers"]
        self._arrived = state["ranks"]["arrivals"]

    def _ready(self, loop: Loop, *, resumed: bool) -> None:
        self._parts.wish = None
        self._world.ending.clear()
        handles = [guard(m, self._refuse_bypass) for m in self._run.callables.values()]
        self._guards = [handle for handle in handles if handle is not None]
        source: Any = loop.source
        if not resumed:
            source.set_seed(spread(self._world))
        elif self._size_before == self._world.size and not self._begun_alone:
            for key, takes in self._take_buffers.items():
                let_take_buffers(self._run.callables[key], takes)
            self._await_gradients(self._arrived)
            return
        else:
            # All have the first one's generators.
            assert loop.restored is not None
            randomness.restore(loop.restored["random"], self._run.device)
            seed = spread(self._world)
            loop.restored["random"] = randomness.snapshot(self._run.device)
            if self._begun_alone:
                source.set_seed(seed)

        self._await_gradients({})

    def _await_gradients(self, known: dict[str, list[str]]) -> None:
        """Let DDPs that are new here put gradients together as those did that a checkpoint tells of."""
        for key, module in sorted(self._run.callables.items()):
            if key in self._arrivals and self._arrivals[key].names is not None:
                continue
            one = arrival_of(module, self._world.size)
            if one is None:
                continue
            self._arrivals[key] = one
            if key in known:
                one.play(known[key])
            if one.names is None:
                one.watch()
                self.awaited.append(one)

    def release(self, loop: Loop) -> None:
        """Give back what a loop holds while it runs."""
        current.PADDING = False
        for one in self.awaited:
            one.let_go()
        self.awaited = []
        for handle in self._guards:
            handle.remove()
        self._guards = []
        super().release(loop)

    def _refuse_bypass(self) -> None:
        loop = self._run.active
        if loop is not None and loop.current is not None:
            raise StateError(
                "the model was called past its DDP: this rank's gradients would stay its own, and the "
                "ranks would train models that differ",
                slug="ddp-bypassed", where=user_line(),
                hint="run.model(inputs) instead of model(inputs)",
            )  # fmt: skip

    def _due(self, loop: Loop, step: Step) -> str | None:
        """Return why a checkpoint is due; what the clock says is the first rank's clock."""
        policy, ours = self._run.policy, cast("LoopOverRanks", loop)
        if policy.every_steps is not None and loop.turn % policy.every_steps == 0:
            self._late = True
        if self._parts.shards and self._run.stepper.pending():
            return None  # FSDP2 keeps the gradients of an open window to itself
        if self._late:
            self._late = False
            return "steps"
        if step.ends_epoch:  # said together with the losses
            due, ours.due = ours.due, None
            return due
        # Asked where all have looked at the clock together.
        if policy.every_minutes is None or ours._next_visit == float("inf"):
            return None
        return self._world.first(super()._due(loop, step))

    def due_after(self, loop: LoopOverRanks, step: Step) -> str | None:
        """Return what this rank would say at an epoch's end, before the epoch is counted."""
        if self._run.files is None or step.ends_run or not step.ends_epoch:
            return None
        loop.epoch += 1
        try:
            return super()._due(loop, step)
        finally:
            loop.epoch -= 1

    def _collect(self, loop: Loop, ended: str | None) -> Any:
        buffers = {
            key: {name for name, _ in model.named_buffers(remove_duplicate=False)}
            for key, model in self._run.models.items()
        }
        state = gathered(saving.collect(self._run, loop, ended), buffers, self._world)
        callables = self._run.callables.items()
        state["ranks"]["take_buffers"] = {key: takes_buffers(module) for key, module in callables}
        orders = ((key, one.names) for key, one in self._arrivals.items())
        state["ranks"]["arrivals"] = {key: names for key, names in orders if names is not None}
        return state

    def end(self, loop: Loop, how: str) -> None:
        """End a loop on all ranks, and for a signal that one of them has heard in the last turn."""
        super().end(loop, how)
        signals: Any = self._run.signals
        signals.agree(*self._world.total(signals.told))

    def _save_boundary(self, loop: Loop) -> None:  # noqa: ARG002
        """Save nothing: the other ranks are somewhere else, and the last checkpoint stands."""
        self._world.ending.set()


class BoundaryOverRanks(Boundary):
    """Notes of turns' beginnings that are never put together: that would take all ranks.

    Generators and buffers alone are noted, for a turn that is made again to see where a nan comes from.
    """

    def __init__(self, loop: Loop):
        super().__init__(loop)
        self._watched = {}

    def note(self) -> None:
        """Note the boundary."""
        loop = self._loop
        if loop.source.position == loop.source.length:
            return
        self._random = randomness.torchs(self.device)
        self.turn, self.epoch = loop.turn, loop.epoch
        self._turns += 1
        self.buffers.note()

    def state(self) -> dict[str, Any] | None:
        """Return nothing."""
        return None

    def hold_if_it_validates(self, step: Step) -> None:
        """Keep nothing."""
