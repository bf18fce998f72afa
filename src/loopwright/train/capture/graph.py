"""A recording as a graph: which results feed which operations, what comes from outside, what goes out.

The graph is written down in TorchScript's intermediate form and run by TorchScript's interpreter: the
same kernels in the same order, without Python in between and below autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from loopwright.train.capture.record import Operation, Refused
from loopwright.train.capture.scalars import Number
from loopwright.train.capture.simplify import simplified

_CODES: dict[Any, int] = {torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4,
           torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.complex64: 9,
           torch.complex128: 10, torch.bool: 11, torch.bfloat16: 15,
           torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2,
           torch.channels_last_3d: 3, torch.strided: 0}  # fmt: skip
"""What the intermediate form writes for dtypes, memory formats and layouts: c10's own numbers."""


class Graph:
    """A function of tensors and numbers.

    Args:
        operations: of one recording, or of several that follow one another.
        inputs: tensors that are other ones at each call, in the order of the call.
        outputs: tensors that the operations made (or inputs), handed back at each call.

    Attributes:
        constants: tensors that the operations used and that are neither inputs nor made by them:
            parameters, buffers, an optimizer's state. They are the same objects at each call.

    Raises:
        Refused: an argument that the intermediate form has no word for.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ):
        writer = Writer(inputs)
        operations, outputs = simplified(operations, outputs)
        for operation in operations:
            writer.operation(operation)
        self.text, self._floats = writer.finish(outputs)
        self.constants = writer.constants
        self._function = function_of(self.text)
        self._fixed = [value for kind, value in self._floats if kind is None]
        self._order = [kind for kind, _ in self._floats]

    def __call__(self, inputs: Iterable[Tensor], numbers: Sequence[float] = ()) -> Any:
        """Run it; returns the outputs (a tuple, or the tensor where there is one)."""
        with as_written():
            return self.within(inputs, numbers)

    def within(self, inputs: Iterable[Tensor], numbers: Sequence[float] = ()) -> Any:
        """Run it inside of `as_written`."""
        fixed = iter(self._fixed)
        floats = [next(fixed) if kind is None else numbers[kind] for kind in self._order]
        return self._function(*inputs, *self.constants, *floats)


def function_of(text: str) -> Any:
    """Return what runs a graph in the intermediate form; raises ``Refused`` where TorchScript does not."""
    try:
        return torch._C._create_function_from_graph("step", torch._C.parse_ir(text))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise Refused(f"TorchScript does not take it: {reason}") from error


class as_written:  # noqa: N801 - a context manager; a class, since a generator costs 1 µs more
    """Inside, graphs run below autograd, without autocast (its casts are recorded), and as they are written.

    TorchScript's optimizer would take addmm apart and join mm's, which changes the last bits.
    """

    def __enter__(self) -> None:
        self._casts = torch.is_autocast_enabled("cpu")
        if self._casts:
            torch.set_autocast_enabled("cpu", False)
        self._before = torch._C._get_graph_executor_optimize()
        torch._C._set_graph_executor_optimize(False)
        self._below = torch._C._AutoDispatchBelowAutograd()
        self._below.__enter__()

    def __exit__(self, *error: object) -> None:
        self._below.__exit__(*error)
        torch._C._set_graph_executor_optimize(self._before)
        if self._casts:
            torch.set_autocast_enabled("cpu", True)


class Writer:
    """Writes operations down, one line each; every value has a name.

    Attributes:
        constants: tensors that are neither inputs nor made by an operation.
        floats: the numbers that were met: which scalar each is (None for one that stays), and its value.
    """

    def __init__(self, inputs: Sequence[Tensor]):
        self.constants: list[Tensor] = []
        self._names: dict[int, str] = {}
        self._keep: list[Any] = []
        self._lines: list[str] = []
        self._literals: dict[Any, str] = {}
        self.floats: list[tuple[int | None, float]] = []
        self._count = 0
        self._inputs = [self._name(tensor) for tensor in inputs]

    def finish(self, outputs: Sequence[Tensor]) -> tuple[str, list[tuple[int | None, float]]]:
        """Return the graph's text, and the numbers that it takes: which scalar each is, or its value."""
        results = ", ".join(self._tensor(tensor) for tensor in outputs)
        if len(outputs) != 1:
            kinds = ", ".join("Tensor" for _ in outputs)
            self._line(f"%out : ({kinds})", f"prim::TupleConstruct({results})")
            results = "%out"
        tensors = [*self._inputs, *(self._names[id(tensor)] for tensor in self.constants)]
        head = [f"{name} : Tensor" for name in tensors]
        head += [f"%f{number} : float" for number in range(len(self.floats))]
        body = "\n".join(self._lines)
        return f"graph({', '.join(head)}):\n{body}\n  return ({results})", self.floats

    def also(self, tensor: Tensor, same: Tensor) -> None:
        """Let a tensor share the name of another, which an operation made."""
        self._names[id(tensor)] = self._tensor(same)
        self._keep.append(tensor)

    def names(self, tensors: Sequence[Tensor]) -> list[str]:
        """Return the names of tensors that were met."""
        return [self._names[id(tensor)] for tensor in tensors]

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def operation(self, operation: Operation) -> None:
        """Write one operation."""
        schema = operation.function._schema
        arguments = [
            self._value(value, str(argument.type))
            for value, argument in zip(operation.arguments, schema.arguments, strict=True)
        ]
        made = operation.outputs
        made = made if isinstance(made, tuple) and len(schema.returns) > 1 else (made,)
        if len(schema.returns) == 0:
            self._line("", f"{schema.name}({', '.join(arguments)})")
            return
        results, lists = [], []
        for value, returned in zip(made, schema.returns, strict=True):
            kind = str(returned.type)
            if isinstance(value, Tensor):
                # A result that is an argument (an operation in place) keeps that one's name.
                name = self._new() if id(value) in self._names else self._name(value)
            elif value is None:  # convolution_backward without a gradient of its input
                name, kind = self._new(), "Tensor"
            elif isinstance(value, list) and kind in ("List[Tensor]", "Tensor[]"):
                name, kind = self._new(), "Tensor[]"
                lists.append((name, value))
            else:
                raise Refused(f"{operation.function} returns {type(value).__name__}")
            results.append(f"{name} : {kind}")
        self._line(", ".join(results), f"{schema.name}({', '.join(arguments)})")
        for name, tensors in lists:
            parts = [f"{self._name(tensor)} : Tensor" for tensor in tensors]
            self._line(", ".join(parts), f"prim::ListUnpack({name})")

    def _line(self, results: str, call: str) -> None:
        self._lines.append(f"  {results} = {call}" if results else f"  {call}")

    def _new(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def _name(self, tensor: Tensor) -> str:
        name = self._names[id(tensor)] = self._new()
        self._keep.append(tensor)
        return name

    def _tensor(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            self._name(tensor)
            self.constants.append(tensor)
        return self._names[id(tensor)]

    def _value(self, value: Any, kind: str = "") -> str:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, (list, tuple)):
            return self._list(value, kind)
        return self._literal(value)

    def _float(self, value: float) -> str:
        number = value.place if isinstance(value, Number) else None
        if number is None and (None, value) in self.floats and not math.isnan(value):
            return f"%f{self.floats.index((None, value))}"
        if number is not None:
            for place, (kind, _) in enumerate(self.floats):
                if kind == number:
                    return f"%f{place}"
        self.floats.append((number, value))
        return f"%f{len(self.floats) - 1}"

    def _list(self, values: Any, kind: str) -> str:
        kinds = {type(value) for value in values}
        name = self._new()
        inner = ", ".join(self._value(value) for value in values)
        if not values:
            empty = "Tensor[]" if "Tensor" in kind else "int[]"
            self._line(f"{name} : {empty}", "prim::ListConstruct()")
        elif kind in ("List[number]", "Scalar[]"):
            self._line(f"{name} : Scalar[]", f"prim::ListConstruct({inner})")
        elif all(isinstance(value, Tensor) for value in values):
            self._line(f"{name} : Tensor[]", f"prim::ListConstruct({inner})")
        elif kinds <= {float, Number}:
            self._line(f"{name} : float[]", f"prim::ListConstruct({inner})")
        elif len(kinds) == 1 and kinds <= {int, bool}:
            self._line(f"{name} : {kinds.pop().__name__}[]", f"prim::ListConstruct({inner})")
        elif all(value is None or isinstance(value, Tensor) for value in values):
            self._line(f"{name} : Tensor?[]", f"prim::ListConstruct({inner})")
        else:
            raise Refused(f"a list of {', '.join(kind.__name__ for kind in kinds)}")
        return name

    def _literal(self, value: Any) -> str:
        key = (type(value), str(value))
        if key not in self._literals:
            kind, text = _spelled(value)
            name = self._new()
            self._line(f"{name} : {kind}", f"prim::Constant{text}()")
            self._literals[key] = name
        return self._literals[key]


def _spelled(value: Any) -> tuple[str, str]:
    if value is None:
        return "NoneType", ""
    if isinstance(value, bool):
        return "bool", f"[value={int(value)}]"
    if isinstance(value, int):
        return "int", f"[value={value}]"
    if isinstance(value, str):
        return "str", f'[value="{value}"]'
    if isinstance(value, torch.device):
        return "Device", f'[value="{value}"]'
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)) and value in _CODES:
        return "int", f"[value={_CODES[value]}]"
    raise Refused(f"an argument of type {type(value).__name__}")
