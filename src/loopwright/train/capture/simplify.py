"""What of a recording need not be replayed: copies that only it caused, names, results that nobody uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loopwright.train.capture.record import Operation


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors among an operation's arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in tensors(part)]
    return []


def place(tensor: Tensor) -> Any:
    """Return the same for two tensors that show the same elements of the same memory."""
    if tensor.numel() == 0 or tensor.layout != torch.strided:
        return id(tensor)
    memory = tensor.untyped_storage().data_ptr()
    return (memory, tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride())


def needed(operations: Sequence[Operation], outputs: Sequence[Tensor]) -> list[Operation]:
    """Leave out what changes nothing and whose result nobody uses; random draws always stay."""
    wanted = {id(tensor) for tensor in outputs}
    kept = []
    for operation in reversed(operations):
        schema = operation.function._schema
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
        draws = torch.Tag.nondeterministic_seeded in operation.function.tags
        made = {id(t) for t in tensors(operation.outputs)}
        if writes or draws or made & wanted:
            kept.append(operation)
            wanted |= {id(t) for value in operation.arguments for t in tensors(value)}
    return kept[::-1]


def without_copies(
    operations: Sequence[Operation], outputs: Sequence[Tensor]
) -> tuple[list[Operation], list[Tensor]]:
    """Hand out gradients themselves instead of copies of them.

    autograd keeps a gradient as it is where nobody else holds it, and copies it otherwise; the recording
    holds everything. A copy is left out where it has the strides of what it is a copy of.
    """
    uses = Counter(id(t) for op in operations for value in op.arguments for t in tensors(value))
    empty = {
        id(op.outputs): op for op in operations
        if op.function is torch.ops.aten.new_empty_strided.default
    }  # fmt: skip
    wanted = {id(tensor) for tensor in outputs}
    source: dict[int, Tensor] = {}
    dropped = set()
    for op in operations:
        if op.function is not torch.ops.aten.copy_.default:
            continue
        new, old = op.arguments[:2]
        same = new.stride() == old.stride() and new.dtype == old.dtype
        if id(new) in empty and id(new) in wanted and uses[id(new)] == 1 and same:
            source[id(new)] = old
            dropped |= {id(op), id(empty[id(new)])}
    kept = [op for op in operations if id(op) not in dropped]
    return kept, [source.get(id(tensor), tensor) for tensor in outputs]
