"""An update whose numbers move, as kernels that find them in the device's memory.

A CUDA graph launches its kernels with the numbers that they were recorded with, and Adam's bias corrections,
or a scheduled learning rate, are other ones at each update. The kernels here take them from a tensor, and
have the same bits: torch's own for lists compute ``x + s * y`` with one rounding, as ``addcmul`` does with a
tensor for ``s`` (H100, torch 2.11: all of 8 tensors and 5 updates; a product that is added was another number
in half of them). Whether that holds where a program runs is seen before anything is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopwright.train.capture import scalars
from loopwright.train.capture.record import Operation, Recording, Refused, by_kind
from loopwright.train.capture.simplify import tensors
from loopwright.train.capture.state import State, bytes_of

if TYPE_CHECKING:
    from loopwright.train.run import Run

LARGEST = 2 << 30
"""Bytes of weights and optimizer state beyond which an update takes long enough as it stands."""
Kernel = Callable[..., Any]
_ATEN = torch.ops.aten


def _products(these: list[Tensor], by: Any) -> Sequence[Tensor]:
    return torch._foreach_mul(these, _alike(by))


def _multiplied(these: list[Tensor], by: Any) -> None:
    torch._foreach_mul_(these, _alike(by))


def _divided(these: list[Tensor], by: Any) -> None:
    torch._foreach_div_(these, _alike(by))


def _added(these: list[Tensor], others: list[Tensor], alpha: Tensor) -> None:
    for one, other in zip(these, others, strict=True):
        one.addcmul_(other, alpha)


def _quotients_added(
    these: list[Tensor], above: list[Tensor], below: list[Tensor], by: Any
) -> None:
    _added(these, list(torch._foreach_div(above, below)), _alike(by))


def _alike(numbers: Any) -> Tensor:
    """Return the one number that is meant for all tensors of a list."""
    one, *others = numbers if isinstance(numbers, (list, tuple)) else [numbers]
    if not isinstance(one, Tensor) or any(other is not one for other in others):
        raise Refused("tensors of one list are updated with other numbers")
    return one


KERNELS: dict[Any, Kernel] = {
    _ATEN._foreach_mul.ScalarList: _products,
    _ATEN._foreach_mul_.Scalar: _multiplied,
    _ATEN._foreach_mul_.ScalarList: _multiplied,
    _ATEN._foreach_div_.ScalarList: _divided,
    _ATEN._foreach_add_.List: _added,
    _ATEN._foreach_addcdiv_.Scalar: _quotients_added,
    _ATEN._foreach_addcdiv_.ScalarList: _quotients_added,
}
"""What is launched in the place of an operation that takes a number that moves."""


@dataclass(frozen=True)
class _Place:
    """Stands for what an operation makes: the tensors of the recording are not kept for its memory."""

    number: int


class MovingUpdate:
    """The update of an optimizer that counts on the host.

    Args:
        run: whose; its parameters have gradients to try it with.
        optimizer: the run's one; what it counts beside tensors, the caller puts back.
        grads: these gradients, in the order in which ``launch`` will be given others.

    Attributes:
        row: the numbers of the coming update, as its kernels find them; 1-d.

    Raises:
        Refused: it cannot be had in the same bits; the text says why.
    """

    def __init__(self, run: Run, optimizer: torch.optim.Optimizer, grads: Sequence[Tensor]):
        self._run = run
        self._optimizer = optimizer
        if any(isinstance(group["lr"], Tensor) for group in optimizer.param_groups):
            raise Refused("its learning rate is a tensor")
        if bytes_of(run) > LARGEST:
            raise Refused("to compare it takes three copies of more than 2 GiB")
        if not scalars.counters_agree(optimizer):
            raise Refused("its parameters have made different numbers of updates")
        self._counters = [
            state["step"]
            for state in optimizer.state.values()
            if isinstance(state.get("step"), Tensor)
        ]
        if any(step.device.type != "cpu" for step in self._counters):
            raise Refused("its counters are on the device")
        for state in optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.device != run.device and name != "step":
                    raise Refused(f"it keeps {name!r} on the host, where no graph changes it")
        self.row = torch.zeros(len(scalars.of(optimizer)), dtype=torch.float32, device=run.device)
        self._numbers = self.row.unbind()
        self._operations: list[Operation] = []
        self._grads = [_Place(number) for number in range(len(grads))]
        self._recognise(grads)

    def _recognise(self, grads: Sequence[Tensor]) -> None:
        """See which numbers move, and that the kernels have the bits of the update as it stands."""
        run, optimizer = self._run, self._optimizer
        reads = scalars.looked_at(optimizer)
        before, one, other = State(run), Recording(reads=reads), Recording(reads=reads)
        numbers = scalars.of(optimizer)
        try:
            counts = [float(step) for step in self._counters]
            with one, run.stepper.guard.ours():
                optimizer.step()
            if [float(step) - 1 for step in self._counters] != counts:
                raise Refused("its counters are not raised by one")
            before.put_back()
            with scalars.much_later(optimizer):
                others = scalars.of(optimizer)
                start = State(run)
                with other, run.stepper.guard.ours():
                    optimizer.step()
                then = State(run)
                if (why := one.why_not or other.why_not) is not None:
                    raise Refused(why)
                made = scalars.recognised(one.operations, other.operations, numbers, others)
                self._operations = list(self._on_the_device(made, grads))
                start.put_back()
                self.set(self.rows([others])[0])
                self.launch(grads)
                self.count(1)
                if (difference := then.differs()) is not None:
                    raise Refused(f"with its numbers on the device {difference}")
        except RuntimeError as error:
            raise Refused(str(error).partition("\n")[0]) from error
        finally:
            before.put_back()

    def _on_the_device(
        self, operations: Sequence[Operation], grads: Sequence[Tensor]
    ) -> Iterator[Operation]:
        """Yield operations without what they made: a `_Place` says where that stands now."""
        counters = {id(step) for step in self._counters}
        places = dict(zip(map(id, grads), self._grads, strict=True))

        def placed(argument: Any) -> Any:
            if isinstance(argument, (list, tuple)):
                return [placed(part) for part in argument]
            return places.get(id(argument), argument) if isinstance(argument, Tensor) else argument

        for operation in operations:
            taken = {id(tensor) for tensor in tensors(operation.arguments)}
            if taken & counters:
                continue  # they are raised by ``count``
            if _moves(operation.arguments) and operation.function not in KERNELS:
                raise Refused(f"{operation.function} takes a number that is another one each time")
            arguments = placed(operation.arguments)
            new = [t for t in tensors(operation.outputs) if id(t) not in taken]
            made = [places.setdefault(id(tensor), _Place(len(places))) for tensor in new]
            yield Operation(operation.function, arguments, made)

    def rows(self, rows: Sequence[Sequence[float]]) -> Sequence[Tensor]:
        """Return the numbers of some updates on the device, for `set`; the host waits for nothing."""
        there = torch.tensor([list(row) for row in rows], dtype=torch.float32)
        if self._run.device.type != "cpu":
            there = there.pin_memory().to(self._run.device, non_blocking=True)
        return there.unbind()

    def set(self, row: Tensor) -> None:
        """Let the next ``launch``, or the replay of its recording, use these numbers."""
        self.row.copy_(row)

    @torch.no_grad()
    def launch(self, grads: Sequence[Tensor]) -> None:
        """Launch the kernels, which take the gradients from there."""
        made: dict[_Place, Tensor] = dict(zip(self._grads, grads, strict=True))
        for operation in self._operations:
            values = [self._given(argument, made) for argument in operation.arguments]
            if _moves(operation.arguments):
                results = KERNELS[operation.function](*values)
            else:
                positional, keywords = by_kind(operation, values)
                results = operation.function(*positional, **keywords)
            if operation.outputs:
                made.update(zip(operation.outputs, tensors(results), strict=True))

    def _given(self, argument: Any, made: dict[_Place, Tensor]) -> Any:
        if isinstance(argument, (list, tuple)):
            return [self._given(part, made) for part in argument]
        if isinstance(argument, scalars.Number):
            return self._numbers[argument.place]
        return made[argument] if isinstance(argument, _Place) else argument

    def count(self, updates: int) -> None:
        """Raise the optimizer's counters by so many updates."""
        if self._counters:
            torch._foreach_add_(self._counters, updates)


def _moves(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(map(_moves, argument))
    return isinstance(argument, scalars.Number)
