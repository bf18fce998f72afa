"""``run.compile_step(fn)``: forward, loss, backward and update of one turn as two replayed graphs.

A step proves itself. The first turn of each batch shape is run as it stands, the second is recorded, the
next ones are run both ways from the same state and compared bit for bit; only then is it replayed, and it
is compared again after 8, 16, 32, … replays, at each epoch's beginning, and when a number of the optimizer
changes for the first time. On a difference, or where something cannot be replayed, the turns are run as
they stand, and the run's notes say why. In mode "fast" a graph that is proven may then be compiled; that
one is compared as often, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.errors import UsageError
from loopwright.train.callbacks import MOMENTS
from loopwright.train.callsite import CallSite, caller
from loopwright.train.capture import scalars
from loopwright.train.capture.cuda import CudaShape
from loopwright.train.capture.cuda_graphs import CudaGraphs
from loopwright.train.capture.fast import Fast, alike
from loopwright.train.capture.graph import Graph, as_written
from loopwright.train.capture.held import HOOKED, Held
from loopwright.train.capture.proof import Proofs
from loopwright.train.capture.record import Operation, Recorded, Recording, Refused
from loopwright.train.capture.several import Several
from loopwright.train.capture.simplify import writes_to
from loopwright.train.capture.state import (
    State,
    bytes_of,
    counts_in_python,
    plain_options,
    same_bits,
)
from loopwright.train.capture.stretch import Stretches
from loopwright.train.capture.turns import Turns
from loopwright.train.data.batches import count_samples, tensors
from loopwright.train.process import randomness
from loopwright.train.update import gradients
from loopwright.train.update.loss import check_loss, loss_and_weight

if TYPE_CHECKING:
    from loopwright.train.loop import Loop
    from loopwright.train.run import Run
    from loopwright.train.step import Step

SHAPES = 8
"""Batch shapes that are kept; a loader with more of them runs the others as they stand."""
LARGEST = 16 << 20
"""Bytes of weights and optimizer state beyond which the Python between two turns is nothing beside them."""
NOTHING = 1e-5
"""Share of the gradient's norm below which a parameter's own is taken for rounding: of a bias before a
batch norm, say, whose gradient is 0 but for that."""
NOTHING_IN_BF16 = 1e-3
"""The same, where a number has 8 bits."""
SMALL = 0.05
"""Share of the root mean square of a parameter's gradient below which Adam may step the other way."""


class CapturedStep:
    """One training step as a function of a ``Step``; returns the loss, detached.

    Args:
        run: with one optimizer, on a CPU or a CUDA device.
        fn: ``fn(batch)`` returns the loss (a mean over the batch), or ``(loss, weight)``. What it does in
            Python is done when it is recorded and compared, not at each turn.
        mode: ``"exact"`` for the same bits; ``"fast"`` to compile the step where that pays (on a CPU).

    Attributes:
        why_not: why turns are run as they stand, None while they are captured.
        replayed: turns that were replayed.
        proven: turns that were run both ways.
        alone: whether no code but ours, and callbacks, runs between two turns.
    """

    def __init__(self, run: Run, fn: Callable[[Any], Any], mode: str = "exact"):
        if mode not in ("exact", "fast"):
            raise UsageError(f"mode is 'exact' or 'fast', got {mode!r}", slug="unknown-capture")
        self.mode = mode
        self.why_not: str | None = None
        self.replayed = self.proven = 0
        self._run = run
        self._fn = fn
        self._shapes: dict[Any, Shape | CudaShape] = {}
        self._windows = list(run.stepper.windows.values())
        self.held = Held(run)
        self._modules = [m for model in run.models.values() for m in model.modules()]
        self.epoch_proven = -1  # in which some shape was compared
        self.alone = False
        self.last: Any = None  # the shape of the turn before
        if (why := _cannot(run)) is not None:
            self.give_up(why)

    def __call__(self, step: Step) -> Tensor:
        """Train on the batch of ``step``: what ``backward`` and ``update`` do, in one call."""
        if self.why_not is None:
            shape = self._shape_of(step)
            if shape is not None:
                return shape.turn(step, caller())
        return self.as_it_stands(step)

    def as_it_stands(self, step: Step) -> Tensor:
        """Train on the batch of ``step`` without a graph."""
        loss, weight = loss_and_weight(self._fn(step.batch))
        step.backward(loss, weight)
        step.update()
        return loss.detach()

    def give_up(self, why: str) -> None:
        """Run all turns from now on as they stand."""
        if self.why_not is None:
            self.why_not = why
            self.forget()
            self._run.note(f"steps are not captured: {why}")

    def forget(self) -> None:
        """Let all graphs go, with their pool of memory: one that was empty once takes no graph again."""
        for shape in self._shapes.values():
            shape.several = None  # it holds the shape
        self._shapes.clear()
        self.last = None
        self.__dict__.pop("graphs", None)
        self.held.forget()

    def _shape_of(self, step: Step) -> Shape | CudaShape | None:
        key = self._key(step.batch)
        if self.why_not is not None:
            return None
        shape = self._shapes.get(key)
        if shape is None and len(self._shapes) == SHAPES:
            self._run.note(
                f"steps are captured for {SHAPES} kinds of batches (shapes, and what is no tensor); "
                "the others are run as they stand"
            )
        elif shape is None:
            kind = CudaShape if self._run.device.type == "cuda" else Shape
            shape = self._shapes[key] = kind(self, self._run, self._fn)
        return shape

    def _key(self, batch: Any) -> Any:
        self.held.look(self)
        modes = tuple([module.training for module in self._modules])
        learns = tuple([p.requires_grad for window in self._windows for p in window.parameters()])
        return (_signature(batch), modes, learns)

    def known_shape(self, batch: Any) -> Shape | CudaShape | None:
        """Return what is recorded for batches like this one; None where nothing is."""
        return self._shapes.get(self._key(batch))

    @property
    def begun(self) -> bool:
        """Whether a turn was made, and the graphs since then were not let go."""
        return bool(self._shapes)

    def stretches(self, every: int | None = None) -> Callable[[Loop], bool]:
        """Return what makes those turns of a loop whose body does nothing but to call this step.

        Args:
            every: the body does something else after each so many turns, and at an epoch's end.
        """
        self.alone = True
        return Stretches(self, every).made

    def asks(self, epoch: int) -> bool:
        """Whether a turn is to be compared since an epoch has begun: programs change what they do there.

        Where no code but ours runs between turns, that is in epochs 0, 1, 2, 4, 8, …
        """
        if epoch == self.epoch_proven:
            return False
        others = not self.alone or any(map(self._run.moments.wanted, MOMENTS))
        return others or epoch & (epoch - 1) == 0

    def stretched(self, count: int) -> None:
        """Do what follows the updates of several turns."""
        self.replayed += count
        self._windows[0].updates += count
        self.held.updates += count
        self._run.nonfinite.was_finite()
        self._run.precision.forget_weights()

    @cached_property
    def graphs(self) -> CudaGraphs:
        """What records CUDA graphs, for all shapes."""
        return CudaGraphs(self._run.device)


class Shape:
    """The graphs of one batch shape, and how far they are proven."""

    def __init__(self, owner: CapturedStep, run: Run, fn: Callable[[Any], Any]):
        self._owner = owner
        self._run = run
        self._fn = fn
        (self._window,) = run.stepper.windows.values()
        self._optimizer = self._window.optimizer
        self._forward: Graph | None = None
        self._update: Graph | None = None
        self._fast = Fast(run) if owner.mode == "fast" else None
        self.several: Several | None = None
        self._parameters: list[Any] = []
        self._weighs = False  # the weight is a tensor that fn computes
        self._weight: Any = None
        self._seen = 0
        self._proofs = Proofs(owner)
        self._options = plain_options(self._optimizer)

    def turn(self, step: Step, site: CallSite) -> Tensor:
        """Train on one batch."""
        self._seen += 1
        if self._seen == 1:  # lets the optimizer make its state
            return self._owner.as_it_stands(step)
        if self._forward is None:
            return self._record(step, site)
        numbers = scalars.of(self._optimizer)
        if self._fast is not None and self._fast.due and self._fast.decide():
            self._proofs.begin(numbers)
        if self._proofs.due(step, numbers) or not self.has_its_options():
            return self._prove(step, numbers)
        self._owner.replayed += 1
        return self._replay(step, numbers, site)

    def has_its_options(self) -> bool:
        """Whether the optimizer's options, but for learning rates, are those of the beginning."""
        return plain_options(self._optimizer) == self._options

    # -- recording -----------------------------------------------------------------------------

    def _record(self, step: Step, site: CallSite) -> Tensor:
        """Run a turn and keep its operations."""
        self._owner.held.hold(counters=True)
        loop, forward = self._run.active, Recording()
        assert loop is not None
        with forward:
            loss, self._weight = loss_and_weight(self._fn(step.batch))
        check_loss(loss, "run.compile_step(fn): fn()", site)
        if not loop.record_loss(step, loss, self._weight_for(step, self._weight), site):
            return loss.detach()
        with self._run.precision.off() or nullcontext():
            return self._record_rest(step, site, loss, forward)

    def _record_rest(self, step: Step, site: CallSite, loss: Tensor, forward: Recording) -> Tensor:
        """Run what follows the loss, without autocast."""
        stepper, inputs = self._run.stepper, list(tensors(step.batch))
        clip, update = Recording(), Recording(reads=scalars.looked_at(self._optimizer))
        with forward:
            torch.autograd.backward(loss)
        parameters = stepper.order.sort(self._window.parameters())
        parameters = [p for p in parameters if p.grad is not None]
        grads = gradients.of(parameters)
        with forward:
            total = gradients.norm(grads)
        if not math.isfinite(value := total.item()):
            self._owner.give_up("a gradient that is not finite came while it was recorded")
            stepper.adopt(self._window, step.index, site)
            step.update()
            return loss.detach()
        numbers = scalars.of(self._optimizer)
        with clip:
            stepper.clip_by(grads, total)
        with update, stepper.guard.ours():
            self._optimizer.step()
        try:
            self._refuse(inputs, forward, clip, update)
            operations = [*clip.operations, *self._recognised(update, numbers)]
            weights = [self._weight] if isinstance(self._weight, Tensor) else []
            self._weighs = bool(weights)
            self._forward = Graph(forward.operations, inputs, [loss, total, *weights, *grads])
            self._update = Graph(operations, [*grads, total], [total])
            self._parameters = parameters
            self._proofs.begin(numbers)
            if self._fast is None and not weights and bytes_of(self._run) <= LARGEST:
                with suppress(Refused):  # one turn a call it is, then
                    turns = Turns(
                        forward.operations, operations, inputs, [loss, total, *grads], len(numbers)
                    )
                    self.several = Several(self._run, turns, self._one)
            if self._fast is not None:
                outputs = [loss, total, *weights]
                recorded = (forward.operations, operations, inputs, outputs, grads, len(numbers))
                self._fast.keep(Recorded(*recorded))
        except Refused as refused:
            self._owner.give_up(str(refused))
        for parameter in parameters:
            parameter.grad = None
        self._close(step, value)
        return loss.detach()

    def _refuse(self, inputs: list[Tensor], *recordings: Recording) -> None:
        """Raise ``Refused`` where the recordings would not be the whole step."""
        if any(tensor.requires_grad for tensor in inputs):
            raise Refused("the batch asks for gradients, which a graph does not add up")
        for recording in recordings:
            if recording.why_not is not None:
                raise Refused(recording.why_not)
            if writes_to(recording.operations, inputs):
                raise Refused("it writes to the batch: a turn cannot be made twice, to compare")
        held = {id(p) for p in self._window.parameters()}
        for model in self._run.models.values():
            for name, parameter in model.named_parameters():
                if parameter.grad is not None and id(parameter) not in held:
                    raise Refused(f"{name} has a gradient and is in no optimizer")
        if not scalars.counters_agree(self._optimizer):
            raise Refused("the optimizer's parameters have made different numbers of updates")
        if (name := counts_in_python(self._optimizer)) is not None:
            raise Refused(f"the optimizer keeps {name!r} as a number, which a graph cannot move on")

    def _recognised(self, update: Recording, numbers: list[float]) -> list[Operation]:
        """Record another update, much later, with another learning rate and undone again; compare."""
        before, again = State(self._run), Recording(reads=scalars.looked_at(self._optimizer))
        try:
            with scalars.tried(self._optimizer), scalars.much_later(self._optimizer):
                others = scalars.of(self._optimizer)
                with again, self._run.stepper.guard.ours():
                    self._optimizer.step()
        finally:
            before.put_back()
        return scalars.recognised(update.operations, again.operations, numbers, others)

    # -- proof ---------------------------------------------------------------------------------

    def _prove(self, step: Step, numbers: list[float]) -> Tensor:
        """Run the turn both ways from one state; what stays is what the turn as it stands gives."""
        if not self.has_its_options():
            self._owner.give_up("an option of the optimizer was changed")
            return self._owner.as_it_stands(step)
        before = State(self._run)
        rounds = self._fast is not None and self._fast.chosen
        loss, *_ = self._run_graphs(step, numbers)
        replayed = State(self._run)
        before.put_back()
        noise: dict[int, Tensor | None] = {}
        if rounds:
            noise = self._of_rounding(step)
            before.put_back()
        expected = self._owner.as_it_stands(step)
        difference = replayed.far_from(before, noise) if rounds else replayed.differs()
        if difference is None and not (alike if rounds else same_bits)(loss, expected):
            difference = f"the loss is {loss.item()!r} instead of {expected.item()!r}"
        if difference is not None and rounds:
            assert self._fast is not None
            self._fast.give_up(difference)
            return expected
        if difference is not None:
            self._owner.give_up(
                f"a replayed step is not the step as it stands: {difference}{self._proofs.since()}"
            )
            return expected
        self._owner.proven += 1
        self._proofs.passed(step)
        return expected

    def _of_rounding(self, step: Step) -> dict[int, Tensor | None]:
        """Return which elements of parameters, and of their states, count, where not all do.

        None do of a parameter whose gradient is nothing beside the others'. Where the optimizer keeps
        something for each element, which is compared as a whole, those of a parameter do not whose gradient
        is small: of the bias of an attention's keys, say, which stands in one tensor with two others'.
        """
        assert self._forward is not None
        nothing = NOTHING_IN_BF16 if self._run.precision.name == "bf16" else NOTHING
        _, total, *rest = self._forward(tensors(step.batch))
        found: dict[int, Tensor | None] = {}
        for parameter, grad in zip(self._parameters, rest[self._weighs :], strict=True):
            state = self._optimizer.state.get(parameter, {})
            size = grad.abs()
            if grad.norm() <= nothing * total:
                found |= dict.fromkeys([id(parameter), *map(id, state.values())])
            elif any(getattr(kept, "shape", None) == grad.shape for kept in state.values()):
                found[id(parameter)] = size > SMALL * size.square().mean().sqrt()
        return found

    # -- replay --------------------------------------------------------------------------------

    def _run_graphs(self, step: Step, numbers: list[float]) -> tuple[Tensor, Any, float]:
        assert self._forward is not None
        if self._fast is not None and self._fast.chosen:
            assert self._fast.graph is not None
            loss, total, *rest = self._fast.graph(list(tensors(step.batch)), numbers)
            return loss, rest[0] if self._weighs else self._weight, total.item()
        with as_written():
            loss, total, *rest = self._forward.within(tensors(step.batch))
            weight = rest.pop(0) if self._weighs else self._weight
            value = total.item()
            if math.isfinite(value) and math.isfinite(loss.item()):
                assert self._update is not None
                self._update.within([*rest, total], numbers)
        return loss, weight, value

    def _replay(self, step: Step, numbers: list[float], site: CallSite) -> Tensor:
        run = self._run
        loop = run.active
        assert loop is not None
        started = perf_counter()
        loss, weight, value = self._run_graphs(step, numbers)
        if self._fast is not None:
            self._fast.took(perf_counter() - started)
        if not (math.isfinite(value) and math.isfinite(loss.item())):
            # Once more as it stands: what is done about it, and which module it was, is known there.
            randomness.restore(loop.boundary.body_random, run.device)
            loop.boundary.buffers.put_back()
            return self._owner.as_it_stands(step)
        self._proofs.replays += 1
        loop.record_loss(step, loss, self._weight_for(step, weight), site)
        self._close(step, value)
        step._began = perf_counter()
        loop.phase_backward += step._began - started
        return loss

    def _one(self, batch: list[Tensor], numbers: list[float]) -> tuple[float, float]:
        """Train on one batch, by the graphs alone; returns its loss and norm."""
        assert self._forward is not None
        assert self._update is not None
        loss, total, *grads = self._forward(batch)
        self._update([*grads, total], numbers)
        return loss.item(), total.item()

    # -- several turns -------------------------------------------------------------------------

    def room(self, epoch: int) -> int:
        """Return how many turns of an epoch may be replayed before one is to be run both ways."""
        return self._proofs.room(epoch)

    def numbers(self, ahead: int) -> list[float]:
        """Return what an update to come is made with, the first group's learning rate first."""
        return scalars.of(self._optimizer, ahead)

    def foresees(self, numbers: list[float], before: list[float] | None) -> bool:
        """Whether an update with these numbers is no reason to run its turn both ways."""
        return self._proofs.foresees(numbers, before)

    def stands_still(self) -> bool:
        """Whether all updates have the same numbers as long as nobody changes the groups."""
        return scalars.stand_still(self._optimizer)

    def stretched(self, rows: list[list[float]]) -> None:
        """Do what follows the updates of several turns."""
        self._proofs.replayed(rows)
        self._owner.stretched(len(rows))

    def weight_of(self, batch: Any) -> Any:
        """Return the weight of a batch's loss."""
        return (count_samples(batch) or 1) if self._weight is None else self._weight

    def _close(self, step: Step, norm: float) -> None:
        """Do what follows an update."""
        self._run.stepper.replayed(self._window, norm)
        self._owner.held.updates += 1
        step._called = True
        loop = self._run.active
        assert loop is not None
        loop.updated(True)

    @staticmethod
    def _weight_for(step: Step, weight: Any) -> Any:
        return (count_samples(step.batch) or 1) if weight is None else weight


def _cannot(run: Run) -> str | None:
    """Say why a run's steps cannot be captured, None where they can."""
    if run.world_size > 1:
        return "there are several ranks"
    if run.device.type not in ("cpu", "cuda"):
        return f"capture of steps on {run.device.type} is not there yet"
    if len(run.optimizers) != 1:
        return "the run has several optimizers"
    if run.accumulate != 1:
        return "accumulate is above 1"
    if run.precision.scaler is not None:
        return "fp16's scale changes from step to step"
    if run._compiled:
        return "the model is compiled"
    (optimizer,) = run.optimizers.values()
    return HOOKED if run.stepper.guard.is_hooked(optimizer) else None


def _signature(batch: Any) -> Any:
    """Return the same for two batches that one graph serves."""
    if isinstance(batch, Tensor):
        return (batch.shape, batch.dtype, batch.stride(), batch.requires_grad)
    if isinstance(batch, dict):
        return tuple([(key, _signature(value)) for key, value in batch.items()])
    if isinstance(batch, (tuple, list)):
        return (type(batch), *[_signature(part) for part in batch])
    return repr(batch)
