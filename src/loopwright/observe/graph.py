"""Reading an autograd graph: its leaves, its nodes, and what an operation was fed with.

Nothing here runs or changes a graph. A walk costs about 0.7 µs a node, so it is done at the first few
backward passes of a place and then ever more rarely.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from loopwright.observe.swap import AttributePatch

TELLS_HOOKS = hasattr(torch._C._autograd.SavedTensor, "unpack_hook")  # type: ignore[attr-defined]
"""Whether torch says which saved tensors go through hooks; 2.9 does not."""
_noted: deque[bool] = deque(maxlen=1)
"""Not empty once the program has used hooks, where torch does not say."""
VIEWS = frozenset(
    f"{name}Backward{number}"
    for name in (
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "_ReshapeAlias",
        "Reshape",
        "_UnsafeView",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "T",
        "Permute",
        "Slice",
        "Select",
        "Index",
        "IndexSelect",
        "Clone",
        "ToCopy",
        "Alias",
        "Expand",
        "Narrow",
        "Unbind",
        "Split",
        "MaskedSelect",
        "Cat",
    )
    for number in range(4)
)
"""Operations that pass values on as they are, in another shape, order, selection or precision."""
SHAPES = frozenset(
    name
    for name in VIEWS
    if name.lstrip("_").startswith(("View", "Unsafe", "Reshape", "Squeeze", "Unsqueeze"))
)
"""Those of them that keep the values in their order."""


def nodes(root: Any, limit: int = 50_000) -> Iterator[Any]:
    """Every node below ``root``, once, nearest first along each path; at most ``limit``."""
    seen = {root}
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        if len(seen) > limit:
            return
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                pending.append(below)


def is_leaf_node(node: Any) -> bool:
    """True for the node that puts a gradient into a leaf."""
    return hasattr(node, "variable")


def leaves(root: Any, limit: int = 50_000) -> list[torch.Tensor]:
    """The leaf tensors that a backward pass from ``root`` reaches."""
    return [node.variable for node in nodes(root, limit) if is_leaf_node(node)]


def producer(node: Any, steps: int = 12, views: frozenset[str] = VIEWS) -> Any:
    """The operation that made a tensor's values: ``node`` itself, or the one below views of it."""
    for _ in range(steps):
        if node is None or node.name() not in views:
            return node
        below = [inner for inner, _ in node.next_functions if inner is not None]
        if len(below) != 1:
            return node
        node = below[0]
    return node


def made_by(tensor: torch.Tensor) -> int:
    """The number of the operation that made a tensor's values, in this order; 0 without a graph.

    Numbers are unique in a thread. Addresses are not: what one layer returned and was freed is the memory of
    the next result.
    """
    node = producer(tensor.grad_fn, views=SHAPES)
    return 0 if node is None else node._sequence_nr() + 1


def saved(node: Any, name: str) -> Any:
    """A saved value of a node; None where it has none, it has been freed, or reading it runs a hook."""
    try:
        return None if hooked(node, f"_saved_{name}") else getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None


def hooked(node: Any, attribute: str) -> bool:
    """True where what a node saved goes through hooks of the program's, which reading it would run.

    Checkpointing computes its whole stretch of the forward pass again for each such read: batch norm counts
    the batch once more, and what the modules print stands there twice.
    """
    raw = getattr(node, f"_raw_{attribute.removeprefix('_')}", None)
    if raw is None or not TELLS_HOOKS:
        return raw is not None and bool(_noted)
    return any(
        getattr(one, "unpack_hook", None) is not None
        for one in (raw if isinstance(raw, (tuple, list)) else [raw])
    )


def hooks_noted() -> Iterator[AttributePatch]:
    """A patch for a torch that does not say which tensors go through hooks: from the first ones on, all."""
    if not TELLS_HOOKS:

        def make(original: Any) -> Any:
            def enter(hooks: Any) -> Any:
                _noted.append(True)
                return original(hooks)

            return enter

        yield AttributePatch(torch.autograd.graph.saved_tensors_hooks, "__enter__", make)


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node's first output in the forward pass."""
    try:
        return tuple(node._input_metadata[0].shape)
    except (AttributeError, IndexError, RuntimeError, TypeError):
        return None


def result_bytes(root: Any, limit: int = 20_000) -> int:
    """About how much memory the results of a graph's operations take, views of others left out."""
    total = 0
    for node in nodes(root, limit):
        if is_leaf_node(node) or node.name() in VIEWS:
            continue
        try:
            made = node._input_metadata[0]
            total += math.prod(made.shape) * made.dtype.itemsize
        except (AttributeError, IndexError, RuntimeError, TypeError):
            continue
    return total


class Mark:
    """Stands in a node's metadata: it dies with the node, so a weak reference to it tells when."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int):
        self.number = number


def mark(node: Any, number: int) -> Mark:
    """Put a mark into a node; returns it for a weak reference (0.6 µs)."""
    found = Mark(number)
    node.metadata[f"loopwright {number}"] = found
    return found


def made_at(node: Any, where: Any) -> None:
    """Remember in a node which place of the program made it."""
    node.metadata["loopwright made"] = where


def maker_of(node: Any) -> Any:
    """The place that made a node, where that was noted."""
    return node.metadata.get("loopwright made")


def storage_pointer(tensor: torch.Tensor) -> int:
    """Where a tensor's storage begins; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def outputs_of(value: Any, most: int = 16) -> list[torch.Tensor]:
    """The tensors with a graph in what a module returned: a loss may use any of them."""
    if isinstance(value, torch.Tensor):
        return [value] if value.grad_fn is not None else []
    if dataclasses.is_dataclass(value) and not isinstance(value, (dict, type)):
        value = vars(value)
    if not isinstance(value, (tuple, list, dict)):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [one for part in inner for one in outputs_of(part, most)][:most]
