"""A step as CUDA graphs: forward, loss, backward, norm and clipping in one, the update in another.

The GPU is given hundreds of kernels by one call, with the same arguments in the same memory. Random
numbers go on from the device's generator at each replay. What an update computes in Python (Adam's bias
corrections, a learning rate that a schedule moves) its kernels find in the device's memory, where that gives
the same bits (`MovingUpdate`); else the update is launched as it stands, on the gradients of the first graph.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.callsite import CallSite
from loopwright.train.capture import fixed, scalars
from loopwright.train.capture.made import Made, as_kept, described, unique
from loopwright.train.capture.moving import MovingUpdate
from loopwright.train.capture.proof import Proofs
from loopwright.train.capture.record import Recording, Refused
from loopwright.train.capture.ring import Ring
from loopwright.train.capture.several import Several
from loopwright.train.capture.state import (
    Options,
    State,
    bytes_of,
    counts_in_python,
    plain_options,
    same_bits,
)
from loopwright.train.capture.variation import Variation
from loopwright.train.data.batches import count_samples, map_tensors
from loopwright.train.process import randomness
from loopwright.train.update import found_inf, gradients
from loopwright.train.update.loss import check_loss, loss_and_weight

if TYPE_CHECKING:
    from loopwright.train.capture.step import CapturedStep
    from loopwright.train.run import Run
    from loopwright.train.step import Step

STEADY = 4
"""Updates with the same numbers after which the update gets a graph that has them."""
RESTLESS = 3
"""Updates in a row with other numbers after which it gets one that finds them in memory."""
LARGEST = 256 << 20
"""Bytes of weights and optimizer state that are copied for several turns in one call: 0.2 ms."""


class CudaShape:
    """The graphs of one batch shape, and how far they are proven."""

    def __init__(self, owner: CapturedStep, run: Run, fn: Callable[[Any], Any]):
        self._owner = owner
        self._run = run
        self._fn = fn
        (self._window,) = run.stepper.windows.values()
        self._optimizer = self._window.optimizer
        self._skips = found_inf.is_taken(self._optimizer)
        self._forward: torch.cuda.CUDAGraph | None = None
        self._update: torch.cuda.CUDAGraph | None = None
        self._batch: Any = None
        self._held: list[Any] = []
        self._inputs: list[Tensor] = []
        self._made: Made
        self._made_with_update: Made
        self._begun, self._steady, self._restless = False, 0, 0
        self._numbers: list[Any] | None = None
        self._options = plain_options(self._optimizer)
        self._moving: MovingUpdate | None = None
        self._ring: Ring | None = None
        self._follows = False  # a turn of this shape was the one before
        self._may_move = True
        self._proofs = Proofs(owner)
        self._varies = False  # the step has other bits each time it is run
        self.several: Several | None = None

    def turn(self, step: Step, site: CallSite) -> Tensor:
        """Train on one batch."""
        self._follows, self._owner.last = self._owner.last is self, self
        if not self._begun:  # lets the optimizer make its state, unless the update is left out
            before = self._window.updates
            loss = self._owner.as_it_stands(step)
            self._begun = self._window.updates > before or bool(self._optimizer.state)
            return loss
        refused = self._prepare(step, site)
        if refused is not None:
            self._owner.give_up(refused)
            gc.collect()  # what a failed recording left of autograd's graph belongs to its stream
            return self._owner.as_it_stands(step)
        if self._proofs.due(step, self._coming()):
            return self._prove(step)
        self._owner.replayed += 1
        return self._replay(step, site)

    # -- recording -----------------------------------------------------------------------------

    def _prepare(self, step: Step, site: CallSite) -> str | None:
        """Record what is not recorded yet; returns why it cannot be."""
        try:
            if self._forward is None:
                self._record(step, site)
            self._see_to_the_update()
        except Refused as refused:
            return str(refused)  # without the exception, whose frames hold the graph of autograd
        return None

    def _record(self, step: Step, site: CallSite) -> None:
        """Record forward and backward; nothing of it stays."""
        run = self._run
        self._owner.held.hold(counters=fixed.numbers(self._optimizer, run.device) is None)
        known: dict[int, Tensor] = {}

        def own(part: Any) -> Tensor:
            if not isinstance(part, Tensor) or part.device != run.device:
                raise Refused(f"the batch holds {described(part)}, which a graph cannot be given")
            if part.requires_grad:
                raise Refused("the batch asks for gradients, which a graph does not add up")
            if id(part) not in known:
                known[id(part)] = part.detach().clone()
                self._inputs.append(known[id(part)])
            return known[id(part)]

        batch = self._batch = map_tensors(step.batch, own)
        parameters = run.stepper.order.sort(self._window.parameters())
        held = self._held = [p for p in parameters if p.requires_grad]
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in held):
            raise Refused("a parameter has a hook on its gradient, which a graph does not call")
        if (name := counts_in_python(self._optimizer)) is not None:
            raise Refused(f"the optimizer keeps {name!r} as a number, which a graph cannot move on")
        before = State(run)
        try:
            self._record_from(before, batch, site)
        finally:
            before.put_back()
        self._proofs.begin([])

    def _record_from(self, before: State, batch: Any, site: CallSite) -> None:
        run, graphs, held = self._run, self._owner.graphs, self._held
        recording = Recording()
        torch.clear_autocast_cache()
        with run.nonfinite.recall.paused():
            # Once as it is: what the host looks at is seen.
            with graphs.warming_up(), recording:
                self._check(batch, held, site)
            before.put_back()
            if recording.why_not is not None:
                raise Refused(recording.why_not)
            del recording
            torch.clear_autocast_cache()
            with graphs.recorded() as self._forward:
                self._made = self._computed(batch, held)
            torch.clear_autocast_cache()

    def _check(self, batch: Any, held: Sequence[Tensor], site: CallSite) -> None:
        """Run forward and backward once, and refuse what a graph would not show."""
        loss, _ = loss_and_weight(self._fn(batch))
        check_loss(loss, "run.compile_step(fn): fn()", site)
        ours = {id(p) for p in held}
        others = {
            name: p for model in self._run.models.values() for name, p in model.named_parameters()
            if p.requires_grad and id(p) not in ours
        }  # fmt: skip
        with self._run.precision.off() or nullcontext():
            grads = torch.autograd.grad(loss, [*held, *others.values()], allow_unused=True)
        for name, grad in zip(others, grads[len(held) :], strict=True):
            if grad is not None:
                raise Refused(f"{name} has a gradient and is in no optimizer")
        there = [grad for grad in grads if grad is not None]
        if any(grad.layout != torch.strided for grad in there):
            raise Refused("a gradient is sparse: it has another size each time")
        self._run.stepper.clip_by(there, gradients.norm(there))

    def _computed(self, batch: Any, held: Sequence[Tensor]) -> Made:
        loss, weight = loss_and_weight(self._fn(batch))
        with self._run.precision.off() or nullcontext():
            grads = torch.autograd.grad(loss, held, allow_unused=True)
        loss = loss.detach()
        pairs = as_kept(held, grads)
        there = [grad for _, grad in pairs]
        total = gradients.norm(there)
        # A loss that is not finite makes the sum nan, a finite one changes nothing.
        suspect = torch.add(total, loss, alpha=0)
        # Two kernels; `isfinite` and its inverse as a number are six, 15 µs of the 150 of a small step.
        flag = torch.nan_to_num(suspect.float() * 0, nan=1.0) if self._skips else None
        self._run.stepper.clip_by(there, total)
        alike = loss.dtype == total.dtype == suspect.dtype
        joined = torch.stack([loss, total, suspect]) if alike else None
        return Made(pairs, (loss, total, suspect), joined, flag, weight)

    def _see_to_the_update(self) -> None:
        """Give the update a graph where one serves the coming turn, and take it away where it does not."""
        options = plain_options(self._optimizer)
        changed, self._options = options != self._options, options
        if self._moving is not None:
            if not changed:
                return
            self._let_update_go()
        numbers = fixed.numbers(self._optimizer, self._run.device)
        if numbers is None or numbers != self._numbers:
            self._restless = 0 if changed or self._steady else self._restless + 1
            self._numbers, self._steady = numbers, 0
            if self._update is not None:
                self._let_update_go()
            moves = self._restless >= (RESTLESS if numbers is not None else 1)
            if moves and self._may_move and not self._skips:
                self._get_graph(self._record_moving)
            return
        self._steady += 1
        if self._update is None and self._steady == STEADY:
            with fixed.capturable(self._optimizer) if self._skips else nullcontext():
                self._get_graph(self._record_update)

    def _get_graph(self, record: Callable[[], None]) -> None:
        drawn = randomness.snapshot(self._run.device)  # no kernel runs, but what is Python draws
        try:
            with scalars.tried(self._optimizer):
                record()
        except (Refused, torch.OutOfMemoryError) as refused:
            self._may_move = False
            self._let_update_go()
            reason = str(refused).partition("\n")[0]
            self._run.note(f"the optimizer's update is launched as it stands: {reason}")
        finally:
            self._take_gradients()
            randomness.restore(drawn, self._run.device)
        self._proofs.begin(self._coming())

    def _let_update_go(self) -> None:
        if self._moving is not None:
            self._proofs.begin([])
        self._update = self._moving = self._ring = self.several = None

    def _record_moving(self) -> None:
        """Record the update by kernels that find its numbers in memory."""
        assert self._forward is not None
        before = State(self._run)
        self._forward.replay()  # gradients to try it with: the memory of a new graph holds anything
        before.put_back()
        self._give_gradients(self._made)
        del before
        self._moving = MovingUpdate(self._run, self._optimizer, [g for _, g in self._made.pairs])
        self._record_update()

    def _record_update(self) -> None:
        """Record the update; where nothing is looked at before it, as one graph with all before it."""
        run, graphs = self._run, self._owner.graphs
        with run.stepper.guard.ours(), run.nonfinite.recall.paused():
            torch.clear_autocast_cache()
            with graphs.recorded() as graph:
                made = self._computed(self._batch, self._held) if self._skips else self._made
                self._launch_update(made)
            torch.clear_autocast_cache()
            self._update, self._made_with_update = graph, made
            if made.joined is None or isinstance(made.weight, Tensor) or bytes_of(run) > LARGEST:
                return
            if self._owner.alone and self._follows:  # not for an epoch's last batch
                with suppress(Refused, torch.OutOfMemoryError):  # then a turn is two launches
                    given = (self._inputs, self._trained, made.joined, self._moving)
                    self._ring = Ring(graphs, *given)
                torch.clear_autocast_cache()
        self.several = Several(run, self._at_once, self._one, lambda: self._varies)

    def _trained(self) -> Made:
        made = self._computed(self._batch, self._held)
        self._launch_update(made)
        return made

    def _launch_update(self, made: Made) -> None:
        self._give_gradients(made)
        if self._moving is not None:
            self._moving.launch([grad for _, grad in made.pairs])
        else:
            found_inf.step(self._optimizer, made.flag)

    # -- proof ---------------------------------------------------------------------------------

    def _prove(self, step: Step) -> Tensor:
        """Run the turn both ways from one state; what stays is what the turn as it stands gives."""
        before, options = State(self._run), Options(self._optimizer)
        loss = self._replay_once(step)
        replayed = State(self._run)
        before.put_back()
        options.put_back()
        skipped = self._run.nonfinite.skipped
        expected = self._owner.as_it_stands(step)
        if self._run.nonfinite.skipped > skipped:  # it puts back what a replay leaves
            return expected
        difference = replayed.differs()
        if difference is None and not same_bits(loss, expected):
            difference = f"the loss is {loss.item()!r} instead of {expected.item()!r}"
        if difference is not None:
            difference = self._beyond_variation(
                difference, step, before, options, replayed, loss, expected
            )
        if difference is not None:
            self._owner.give_up(
                f"a replayed step is not the step as it stands: {difference}{self._proofs.since()}"
            )
            return expected
        self._owner.proven += 1
        self._proofs.passed(step)
        return expected

    def _replay_once(self, step: Step) -> Tensor:
        made = self._run_forward(step.batch)
        if math.isfinite(made.numbers[2].item()):
            self._run_update()
        return made.numbers[0].clone()

    def _beyond_variation(
        self,
        difference: str, step: Step, before: State, options: Options, replayed: State,
        loss: Tensor, expected: Tensor,
    ) -> str | None:  # fmt: skip
        """Return what is different, None where replays are as far from each other."""
        stands, now = State(self._run), Options(self._optimizer)
        before.put_back()
        options.put_back()
        again = self._replay_once(step)
        variation = Variation([*replayed.pairs(), (again, loss)])
        stands.put_back()
        now.put_back()
        if not variation.is_there or not replayed.same_draws(stands):
            return difference
        if not self._varies:
            self._run.note(
                "the step has other bits each time it is run: its kernels add up in an order that changes. "
                "A replayed one may be ten times as far from it as replays are from each other"
            )
        self._varies = True
        both = zip(replayed.pairs(), stands.pairs(), strict=True)
        return variation.excuses(
            [*((ours, plain) for (_, ours), (_, plain) in both), (loss, expected)]
        )

    # -- replay --------------------------------------------------------------------------------

    def _run_forward(self, batch: Any) -> Made:
        """Replay up to the clipped gradients; a fused optimizer's graph does the update as well."""
        torch._foreach_copy_(self._inputs, list(unique(batch)))
        if self._skips and self._update is not None:
            self._update.replay()
            return self._made_with_update
        assert self._forward is not None
        self._forward.replay()
        return self._made

    def _coming(self) -> list[float]:
        """Return the numbers of the coming update, none where its graph has them or there is no graph."""
        return [] if self._moving is None else scalars.of(self._optimizer)

    def _run_update(self, row: Tensor | None = None) -> None:
        """Replay the update, or launch it as it stands.

        Args:
            row: its numbers on the device, None for those of the coming one. With it the caller counts.
        """
        if self._moving is not None:
            assert self._update is not None
            if row is None:
                (row,) = self._moving.rows([self._coming()])
                self._moving.count(1)
            self._moving.set(row)
            self._update.replay()
            return
        if self._update is not None:
            if not self._skips:
                self._update.replay()
            return
        self._give_gradients(self._made)
        with self._run.stepper.guard.ours():
            found_inf.step(self._optimizer, self._made.flag)
        self._take_gradients()

    def _give_gradients(self, made: Made) -> None:
        for parameter, grad in made.pairs:
            parameter.grad = grad

    def _take_gradients(self) -> None:
        for parameter, _ in self._made.pairs:
            parameter.grad = None

    def _replay(self, step: Step, site: CallSite) -> Tensor:
        run, loop = self._run, self._run.active
        assert loop is not None
        started = perf_counter()
        made = self._run_forward(step.batch)
        if made.joined is not None:  # one kernel; the next replay writes over what the graph made
            loss, total, suspect = made.joined.clone().unbind()
        else:
            loss, total, suspect = (number.clone() for number in made.numbers)
        if self._skips:
            run.nonfinite.remember(loop.turn, suspect, done=False)
        elif not run.nonfinite.wants_to_look():
            run.nonfinite.remember(loop.turn, suspect, done=True)
        elif not math.isfinite(suspect.item()):
            # Once more as it stands: what is done about it, and which module it was, is known there.
            randomness.restore(loop.boundary.body_random, run.device)
            loop.boundary.buffers.put_back()
            return self._owner.as_it_stands(step)
        self._run_update()
        self._proofs.replays += 1
        weight = made.weight.clone() if isinstance(made.weight, Tensor) else made.weight
        if weight is None:
            weight = count_samples(step.batch) or 1
        loop.record_loss(step, loss, weight, site)
        run.stepper.replayed(self._window, total)
        self._owner.held.updates += 1
        step._called = True
        loop.updated(True)
        step._began = perf_counter()
        loop.phase_backward += step._began - started
        return loss

    # -- several turns -------------------------------------------------------------------------

    def _at_once(
        self, batches: Sequence[list[Tensor]], rows: Sequence[list[float]]
    ) -> tuple[list[float], list[float]]:
        """Launch all turns, then wait for them once: those after one that is not finite are made as well."""
        self._run.transfer.hold(batches)
        results = (
            self._one_by_one(batches, rows) if self._ring is None else self._ring(batches, rows)
        )
        if self._moving is not None:
            self._moving.count(len(rows))
        found = results.tolist()
        finite = next((i for i, one in enumerate(found) if not math.isfinite(one[2])), len(found))
        return [one[0] for one in found[:finite]], [one[1] for one in found[:finite]]

    def _one_by_one(self, batches: Sequence[list[Tensor]], rows: Sequence[list[float]]) -> Tensor:
        like = self._made_with_update.joined
        assert like is not None
        results = like.new_empty((len(rows), len(like)))
        numbers = [None] * len(rows) if self._moving is None else self._moving.rows(rows)
        for batch, row, result in zip(batches, numbers, results.unbind(), strict=True):
            made = self._run_forward(batch)
            self._run_update(row)
            result.copy_(made.joined)  # pyrefly: ignore[bad-argument-type]
        return results

    def _one(self, batch: list[Tensor], numbers: list[float]) -> tuple[float, float]:
        loss, norm, _ = self._run_forward(batch).numbers
        if self._moving is None:
            self._run_update()
        else:
            self._run_update(self._moving.rows([numbers])[0])
            self._moving.count(1)
        return loss.item(), norm.item()

    def room(self, epoch: int) -> int:
        """Return how many turns of an epoch may be replayed before one is to be run both ways."""
        return self._proofs.room(epoch)

    def has_its_options(self) -> bool:
        """Whether the update's graph is there, and serves the optimizer with the options that it has."""
        if self._moving is not None:
            return plain_options(self._optimizer) == self._options
        return (
            self._update is not None
            and fixed.numbers(self._optimizer, self._run.device) == self._numbers
        )

    def numbers(self, ahead: int) -> list[float]:
        """Return what an update to come is made with, the first group's learning rate first."""
        if self._moving is not None:
            return scalars.of(self._optimizer, ahead)
        # What else moves, an optimizer counts on the device.
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def foresees(self, numbers: list[float], before: list[float] | None) -> bool:
        """Whether an update with these numbers, after one with ``before``, may be replayed unseen."""
        if self._moving is not None:
            return self._proofs.foresees(numbers, before)
        return before is None or numbers == before  # the graph has no others

    def stands_still(self) -> bool:
        """Whether all updates have the same numbers as long as nobody changes the groups."""
        return self._moving is None or scalars.stand_still(self._optimizer)

    def stretched(self, rows: list[list[float]]) -> None:
        """Do what follows the updates of several turns."""
        if self._moving is not None:
            self._proofs.replayed(rows)
        else:
            self._proofs.replays += len(rows)
        self._owner.stretched(len(rows))

    def weight_of(self, batch: Any) -> Any:
        """Return the weight of a batch's loss."""
        return (count_samples(batch) or 1) if self._made.weight is None else self._made.weight
