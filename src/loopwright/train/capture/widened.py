"""Operations in bf16 that this machine computes faster in fp32: found by trying, and replaced.

Not every kernel has a fast way for bf16: on a CPU torch's backward pass of attention takes four times as long
in it as in fp32, more than all products of matrices together. Where a recorded operation with its operands
cast to fp32, and its results cast back, is clearly faster than the recorded one, it is written down so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from loopwright.train.capture.graph import Graph, as_written
from loopwright.train.capture.record import Operation, Recorded, by_kind
from loopwright.train.capture.simplify import draws, tensors

NARROW, WIDE = torch.bfloat16, torch.float32
CLEAR = 0.7
"""Share of the time of the recorded operation that its replacement may take."""
SHARE = 0.01
"""Of the time of all operations: what saves less is left as it is."""
TIMES = 3
"""How often each of the two is timed."""

_aten = torch.ops.aten


class Widened:
    """A step with some of its operations in fp32, as two replayed graphs.

    Args:
        recorded: the step, its ``forward`` as ``widened`` gives it.

    Raises:
        Refused: an argument that a graph has no word for.
    """

    def __init__(self, recorded: Recorded):
        forward, update, inputs, outputs, grads, _ = recorded
        self._handed_back = len(outputs)
        self._forward = Graph(forward, inputs, [*outputs, *grads])
        self._update = Graph(update, [*grads, outputs[1]], [outputs[1]])

    def __call__(self, inputs: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        """Run it; where loss or norm is not finite nothing is updated."""
        with as_written():
            made = self._forward.within(inputs)
            loss, norm = made[:2]
            if math.isfinite(norm.item()) and math.isfinite(loss.item()):
                self._update.within([*made[self._handed_back :], norm], numbers)
        return list(made[: self._handed_back])


def widened(operations: Sequence[Operation]) -> tuple[list[Operation], dict[str, float]]:
    """Return operations of which those that are faster in fp32 are computed so.

    Returns:
        All operations, and how many times as fast each replaced one is, by name; none where nothing is.
    """
    kinds = Counter(map(_kind, operations))
    wide: dict[Any, float] = {}
    spent: dict[Any, float] = {}
    if not any(tensor.dtype is NARROW for op in operations for tensor in tensors(op.outputs)):
        return list(operations), {}
    for operation in operations:
        kind = _kind(operation)
        if kind in spent or not _can_be_run_again(operation):
            continue
        spent[kind] = kinds[kind] * _seconds([lambda op=operation: _run(op, op.arguments)])[0]
    total = sum(spent.values())
    for operation in operations:
        kind = _kind(operation)
        if kind in wide or spent.get(kind, -1.0) < SHARE * total or not _has_narrow(operation):
            continue
        again = _in_wide(operation)
        if again is not None:
            before, after = _seconds([lambda op=operation: _run(op, op.arguments), again])
            wide[kind] = before / after if after < CLEAR * before else 0.0
            if (before - after) * kinds[kind] < SHARE * total:
                wide[kind] = 0.0
    made: list[Operation] = []
    for operation in operations:
        made += _replaced(operation) if wide.get(_kind(operation)) else [operation]
    names = {
        kind[0]._schema.name.partition("::")[2]: times for kind, times in wide.items() if times
    }
    return made, names


def _kind(operation: Operation) -> Any:
    """Return the same for two operations that take the same time."""
    return (operation.function, *map(_shown, operation.arguments))


def _shown(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (value.dtype, value.shape, value.stride())
    if isinstance(value, (list, tuple)):
        return tuple(map(_shown, value))
    return repr(value)


def _can_be_run_again(operation: Operation) -> bool:
    """Whether an operation only computes: it is torch's, writes to no argument, is no view, draws nothing."""
    schema = operation.function._schema
    return (
        operation.function.namespace == "aten"
        and not draws(operation)
        and all(argument.alias_info is None for argument in (*schema.arguments, *schema.returns))
    )


def _has_narrow(operation: Operation) -> bool:
    given, made = tensors(operation.arguments), tensors(operation.outputs)
    return all(any(tensor.dtype is NARROW for tensor in some) for some in (given, made))


def _run(operation: Operation, arguments: Sequence[Any]) -> Any:
    positional, named = by_kind(operation, arguments)
    with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
        return operation.function(*positional, **named)


def _wide(value: Any, cast: Callable[[Tensor], Tensor]) -> Any:
    """Return an argument with what is narrow in it cast."""
    if isinstance(value, Tensor):
        return cast(value) if value.dtype is NARROW else value
    if isinstance(value, (list, tuple)):
        return [_wide(part, cast) for part in value]
    return WIDE if value is NARROW else value


def _in_wide(operation: Operation) -> Callable[[], Any] | None:
    """Return what computes an operation in fp32; None where that gives something else."""

    def again() -> list[Tensor]:
        arguments = [_wide(value, lambda t: t.to(WIDE)) for value in operation.arguments]
        made = tensors(_run(operation, arguments))
        return [
            torch.empty_strided(old.shape, old.stride(), dtype=old.dtype).copy_(new)
            if new.dtype is not old.dtype else new
            for new, old in zip(made, tensors(operation.outputs), strict=True)
        ]  # fmt: skip

    try:
        made = again()
    except (RuntimeError, ValueError):
        return None  # there is no such kernel, or it gives another number of results
    same = all(
        (new.shape, new.stride(), new.dtype) == (old.shape, old.stride(), old.dtype)
        for new, old in zip(made, tensors(operation.outputs), strict=True)
    )
    return again if same else None


def _seconds(ways: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the time of each, taken in turn."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(TIMES):
        for way, seconds in zip(ways, taken, strict=True):
            started = perf_counter()
            way()
            seconds.append(perf_counter() - started)
    return [median(seconds) for seconds in taken]


def _replaced(operation: Operation) -> list[Operation]:
    """Return casts to fp32, the operation, and casts of its results back into memory like theirs."""
    before: list[Operation] = []
    known: dict[int, Tensor] = {}

    def cast(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = wide = tensor.to(WIDE)
            before.append(_operation(_aten._to_copy.default, [tensor], wide, dtype=WIDE))
        return known[id(tensor)]

    arguments = [_wide(value, cast) for value in operation.arguments]
    made = _run(operation, arguments)
    after: list[Operation] = []

    def back(new: Any, old: Any) -> Any:
        if not isinstance(old, Tensor) or new.dtype is old.dtype:
            return old
        strides = [list(old.shape), list(old.stride())]
        after.append(
            _operation(_aten.new_empty_strided.default, [new, *strides], old, dtype=NARROW)
        )
        after.append(_operation(_aten.copy_.default, [old, new], old))
        return new

    if isinstance(made, Tensor):
        outputs: Any = back(made, operation.outputs)
    else:
        pairs = zip(made, operation.outputs, strict=True)
        outputs = type(operation.outputs)(back(new, old) for new, old in pairs)
    return [*before, Operation(operation.function, arguments, outputs), *after]


def _operation(function: Any, given: list[Any], outputs: Any, **named: Any) -> Operation:
    """Return a call with a value for every argument of its schema."""
    rest = function._schema.arguments[len(given) :]
    values = [named.get(argument.name, argument.default_value) for argument in rest]
    return Operation(function, [*given, *values], outputs)
