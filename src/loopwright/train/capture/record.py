"""Recording: which ATen operations ran, on which tensors, in which order.

Below autograd everything that torch does to tensors is a call of an ATen operation: the forward pass,
what the autograd engine runs backward, and what an optimizer does. A recording is a real run: its
results are used, nothing is traced symbolically, and what is replayed later are the very same kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from loopwright.train.callsite import user_line

_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Of operations whose result the host looks at, or whose result's size depends on values."""
_LOOKS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__)
"""Functions that hand the memory itself to the host: no operation is seen."""


@dataclass(slots=True)
class Operation:
    """One call; ``outputs`` as the operation returned them."""

    function: Any
    arguments: list[Any]
    outputs: Any


def by_kind(operation: Operation, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return values for an operation's arguments as those that go by place and those that go by name."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for value, argument in zip(values, operation.function._schema.arguments, strict=True):
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    return positional, keywords


class Recorded(NamedTuple):
    """A step's operations, and what goes in and out.

    Attributes:
        forward: the operations up to the gradient's norm.
        update: those that follow, with a `Number` where the optimizer's numbers stand.
        inputs: tensors that are other ones at each call.
        outputs: the loss, the gradient's norm, and what else is handed back.
        grads: the gradients that the update takes.
        count: how many numbers the optimizer has.
    """

    forward: Sequence[Operation]
    update: Sequence[Operation]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    grads: Sequence[Tensor]
    count: int


class Refused(Exception):  # noqa: N818 - not an error: the step is run as it stands
    """A step that cannot be captured; the text says why."""


class Recording(TorchDispatchMode):
    """Keeps every operation of a ``with`` block, and so every tensor of it, alive.

    Args:
        reads: ids of tensors at which the host may look: an optimizer does at its own step counter.

    Attributes:
        operations: in order.
        why_not: the first thing that cannot be replayed, None where all can.
    """

    def __init__(self, *, reads: Collection[int] = ()):
        super().__init__()
        self.operations: list[Operation] = []
        self.why_not: str | None = None
        self._reads = reads
        self._looks: _Looks | None = None

    def __enter__(self) -> Self:
        if not self._reads:
            self._looks = _Looks(self._refuse)
            self._looks.__enter__()
        return super().__enter__()

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        # Let go of, since it refers back: the tensors here would live until the next garbage collection, and
        # with them autograd's nodes, which would go on adding up gradients on the stream of this recording.
        looks, self._looks = self._looks, None
        if looks is not None:
            looks.__exit__(exc_type, exc_val, exc_tb)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        name = func._schema.name
        if name.startswith("profiler::"):
            return outputs
        base = name.partition("::")[2]
        indexes = base in ("index", "index_put_")
        if _masks(args) if indexes else not _READS.isdisjoint(func.tags):
            if base == "_local_scalar_dense" and id(args[0]) in self._reads:
                return outputs
            self._refuse(f"the host looks at a value ({base}): what follows may depend on it")
        if not isinstance(func, torch._ops.OpOverload):
            self._refuse(f"{func} is no plain operation")
        self.operations.append(Operation(func, _all_arguments(func, args, kwargs), outputs))
        return outputs

    def _refuse(self, why: str) -> None:
        if self.why_not is None:
            where = user_line()
            self.why_not = f"{why} ({where})" if where else why


class _Looks(TorchFunctionMode):
    """Sees what is done with tensors beside operations."""

    def __init__(self, refuse: Callable[[str], None]):
        super().__init__()
        self._refuse = refuse

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _LOOKS:
            self._refuse(
                f"the host looks at a value ({func.__name__}): what follows may depend on it"
            )
        return func(*args, **(kwargs or {}))


def _masks(args: Any) -> bool:
    return any(
        isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
        for index in (args[1] or [])
    )


def _all_arguments(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """Return a value for every argument of the schema, in its order."""
    full = []
    for number, argument in enumerate(func._schema.arguments):
        if number < len(args):
            full.append(args[number])
        elif argument.name in kwargs:
            full.append(kwargs[argument.name])
        else:
            full.append(argument.default_value)
    return full
