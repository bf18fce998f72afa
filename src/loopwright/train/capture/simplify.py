"""What of a recording need not be replayed: copies that only it caused, names, constants, unused results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loopwright.train.capture.record import Operation
from loopwright.train.capture.scalars import Number

SMALL = 4096
"""Numbers of a tensor that is kept instead of being filled again."""
FILLS = tuple(
    f"aten::{name}" for name in (
        "ones_like", "zeros_like", "full_like", "ones", "zeros", "full", "arange", "scalar_tensor",
        "new_ones", "new_zeros", "new_full",
    )
)  # fmt: skip


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors among an operation's arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in tensors(part)]
    return []


def draws(operation: Operation) -> bool:
    """Whether an operation draws random numbers: attention does not where no share is dropped."""
    if torch.Tag.nondeterministic_seeded not in operation.function.tags:
        return False
    names = [argument.name for argument in operation.function._schema.arguments]
    return dict(zip(names, operation.arguments, strict=True)).get("dropout_p") != 0.0


def place(tensor: Tensor) -> Any:
    """Return the same for two tensors that show the same elements of the same memory."""
    if tensor.numel() == 0 or tensor.layout != torch.strided:
        return id(tensor)
    memory = tensor.untyped_storage().data_ptr()
    signs = (tensor.is_conj(), tensor.is_neg())  # views that are to be read as something else
    return (memory, tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride(), signs)


def simplified(
    operations: Sequence[Operation], outputs: Sequence[Tensor]
) -> tuple[list[Operation], list[Tensor]]:
    """Return the operations that have to be replayed, and what stands for the outputs then."""
    kept, made = without_copies(*without_names(without_constants(operations, outputs), outputs))
    return needed(kept, made), made


def without_constants(
    operations: Sequence[Operation], outputs: Sequence[Tensor]
) -> list[Operation]:
    """Leave out what fills small tensors with the same numbers each time: the recorded ones stand for them.

    The gradient that a backward pass begins with, say, which is 1.
    """
    held = {_memory(tensor) for tensor in outputs}
    held |= {memory for op in operations if not _fills(op) for memory in _written(op, made=False)}
    return [
        op for op in operations
        if not _fills(op) or op.outputs.numel() > SMALL or _memory(op.outputs) in held
    ]  # fmt: skip


def _fills(operation: Operation) -> bool:
    moves = any(
        isinstance(value, Number) for value in operation.arguments
    )  # with the learning rate
    return (
        not moves
        and operation.function._schema.name in FILLS
        and isinstance(operation.outputs, Tensor)
    )


def without_names(
    operations: Sequence[Operation], outputs: Sequence[Tensor]
) -> tuple[list[Operation], list[Tensor]]:
    """Leave out views that show the same elements as a tensor that is there already."""
    there: dict[Any, Tensor] = {}
    source: dict[int, Tensor] = {}
    kept = []
    for given in operations:
        op = _with(given, source)
        for tensor in tensors(op.arguments):
            there.setdefault(place(tensor), tensor)
        same = there.get(place(op.outputs)) if is_a_view(op) else None
        if same is not None and same is not op.outputs:
            source[id(op.outputs)] = same
            continue
        kept.append(op)
        for tensor in tensors(op.outputs):
            there.setdefault(place(tensor), tensor)
    return kept, [source.get(id(tensor), tensor) for tensor in outputs]


def is_a_view(operation: Operation) -> bool:
    """Whether an operation gives one tensor that shows elements of an argument, and writes nothing."""
    returned = operation.function._schema.returns
    if len(returned) != 1 or not isinstance(operation.outputs, Tensor):
        return False
    return returned[0].alias_info is not None and not returned[0].alias_info.is_write


def needed(operations: Sequence[Operation], outputs: Sequence[Tensor]) -> list[Operation]:
    """Leave out what changes nothing and whose result nobody uses; random draws always stay."""
    wanted = {id(tensor) for tensor in outputs}
    kept = []
    for operation in reversed(operations):
        schema = operation.function._schema
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
        made = {id(t) for t in tensors(operation.outputs)}
        if writes or draws(operation) or made & wanted:
            kept.append(operation)
            wanted |= {id(t) for value in operation.arguments for t in tensors(value)}
    return kept[::-1]


def without_copies(
    operations: Sequence[Operation], outputs: Sequence[Tensor]
) -> tuple[list[Operation], list[Tensor]]:
    """Hand out gradients themselves instead of copies of them.

    autograd keeps a gradient as it is where nobody else holds it, and copies it otherwise; the recording
    holds everything. A copy is left out where what it is a copy of has the same strides, was made by an
    operation, is handed out under no other name, and neither of them is written to afterwards. On the
    digits that is 20 of 80 µs.
    """
    empty = {
        id(op.outputs): op for op in operations
        if op.function is torch.ops.aten.new_empty_strided.default
    }  # fmt: skip
    wanted = {id(tensor) for tensor in outputs}
    made, taken = _memory_made(operations), {_memory(tensor) for tensor in outputs}
    last = {memory: i for i, op in enumerate(operations) for memory in _written(op)}
    source: dict[int, Tensor] = {}
    dropped = set()
    for i, op in enumerate(operations):
        if op.function is not torch.ops.aten.copy_.default:
            continue
        new, old = op.arguments[:2]
        memory = _memory(old)
        if (
            id(new) in empty and id(new) in wanted
            and new.stride() == old.stride() and new.dtype == old.dtype
            and memory in made and memory not in taken
            and last.get(memory, -1) < i and last[_memory(new)] == i
        ):  # fmt: skip
            source[id(new)] = old
            taken.add(memory)
            dropped |= {id(op), id(empty[id(new)])}
    kept = [_with(op, source) for op in operations if id(op) not in dropped]
    return kept, [source.get(id(tensor), tensor) for tensor in outputs]


def writes_to(operations: Sequence[Operation], given: Sequence[Tensor]) -> bool:
    """Whether any of the operations writes to memory of tensors that were given to them."""
    memory = {_memory(tensor) for tensor in given}
    return any(not memory.isdisjoint(_written(op, made=False)) for op in operations)


def _memory(tensor: Tensor) -> int:
    if tensor.layout != torch.strided or not tensor.numel():
        return id(tensor)
    return tensor.untyped_storage().data_ptr()


def _memory_made(operations: Sequence[Operation]) -> set[int]:
    """Return the memory of results that are no views of arguments."""
    return {
        _memory(tensor)
        for op in operations
        if all(returned.alias_info is None for returned in op.function._schema.returns)
        for tensor in tensors(op.outputs)
    }


def _written(op: Operation, *, made: bool = True) -> set[int]:
    """Return the memory that an operation writes to, with what it makes."""
    schema = op.function._schema
    into = [
        value for value, argument in zip(op.arguments, schema.arguments, strict=True)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]  # fmt: skip
    if made and all(returned.alias_info is None for returned in schema.returns):
        into.append(op.outputs)
    return {_memory(tensor) for value in into for tensor in tensors(value)}


def _with(op: Operation, source: dict[int, Tensor]) -> Operation:
    """Return an operation on what its arguments are copies of."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return source.get(id(value), value)
        if isinstance(value, (list, tuple)):
            return type(value)([replaced(part) for part in value])
        return value

    if not source:
        return op
    return Operation(op.function, [replaced(value) for value in op.arguments], op.outputs)
