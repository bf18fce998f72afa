"""A recorded step compiled by inductor: fused kernels for all of it, with other roundings.

The recorded operations become one FX graph: forward, loss, backward, clipping and update. Its update keeps
what was there where the loss or the gradient is not finite, so that the host need not look before it.
Random numbers are drawn before it, by the operations that drew them when it was recorded, in their order:
inside, inductor is free to reorder them (three dropouts of a transformer's layer got one another's masks).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from loopwright.train.capture.record import Operation, Recorded, Refused, by_kind
from loopwright.train.capture.scalars import Number
from loopwright.train.capture.simplify import draws, needed, tensors

_aten = torch.ops.aten
_SUMS = {"add": _aten.add.Tensor, "add_": _aten.add_.Tensor,
         "sub": _aten.sub.Tensor, "sub_": _aten.sub_.Tensor}  # fmt: skip
_PRODUCTS = {"addcdiv": _aten.div.Tensor, "addcmul": _aten.mul.Tensor}
_TAKE_TENSORS = ("add", "sub", "mul", "div")
_EMPTY = ("aten::empty_like", "aten::empty", "aten::empty_strided", "aten::new_empty",
          "aten::new_empty_strided", "aten::empty_permuted")  # fmt: skip


class Compiled:
    """A function of a batch's tensors and an optimizer's numbers.

    Args:
        recorded: the step.

    Raises:
        Refused: an operation that takes a changing number where a graph can only have a fixed one, or
            that inductor does not compile; the reason is its.
    """

    def __init__(self, recorded: Recorded):
        forward, update, inputs, outputs, _, count = recorded
        with warnings.catch_warnings():  # torch's modules warn of each other when they are imported
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch._inductor.compile_fx import compile_fx

        writer = _Writer(inputs, needed([*forward, *update], outputs))
        for operation in writer.operations[: (split := writer.ends_at(forward))]:
            writer.write(operation)
        changed = writer.changed(writer.operations[split:])
        before = writer.copies(changed)
        for operation in writer.operations[split:]:
            writer.write(operation)
        writer.keep_where_not_finite(outputs[:2], changed, before)
        self._constants = [tensor.detach() for tensor in writer.constants]
        module = writer.module(outputs)
        self._draws = writer.draws
        numbers = torch.zeros(count, dtype=torch.float64)
        drawn = [tensor for tensor, _ in self._draws]
        examples = [*(tensor.detach() for tensor in inputs), *self._constants, *drawn, numbers]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                self._function: Any = compile_fx(module, examples)
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise Refused(f"{type(error).__name__}: {reason}") from error

    def __call__(self, inputs: Sequence[Tensor], numbers: Sequence[float]) -> Any:
        """Run it; returns the outputs."""
        with torch.no_grad():
            given = torch.tensor(numbers, dtype=torch.float64)
            drawn = []
            for tensor, operation in self._draws:
                positional, keywords = by_kind(operation, operation.arguments)
                operation.function(tensor, *positional[1:], **keywords)
                drawn.append(tensor)
            return self._function(*inputs, *self._constants, *drawn, given)


class _Writer:
    """Writes operations into an FX graph; every tensor of theirs has a node."""

    def __init__(self, inputs: Sequence[Tensor], operations: Sequence[Operation]):
        self.operations = operations
        self.constants: list[Tensor] = []
        self.draws: list[tuple[Tensor, Operation]] = []
        self._graph = fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._scalars: dict[int, fx.Node] = {}
        self._drawn: set[int] = set()
        for number, tensor in enumerate(inputs):
            self._nodes[id(tensor)] = self._graph.placeholder(f"input_{number}")
        known = set(self._nodes)
        for operation in operations:
            for tensor in tensors(operation.arguments):
                if id(tensor) not in known:
                    known.add(id(tensor))
                    name = f"constant_{len(self.constants)}"
                    self._nodes[id(tensor)] = self._graph.placeholder(name)
                    self.constants.append(tensor)
            known |= {id(tensor) for tensor in tensors(operation.outputs)}
        self._find_draws()
        self._numbers = self._graph.placeholder("numbers")

    def _find_draws(self) -> None:
        """Make inputs of the tensors that are filled with random numbers."""
        fresh = {
            id(operation.outputs): operation.outputs
            for operation in self.operations
            if operation.function._schema.name in _EMPTY
        }
        for operation in self.operations:
            if not draws(operation):
                continue
            name = operation.function._schema.name
            filled = operation.arguments[0] if operation.arguments else None
            if (
                not name.endswith("_")
                or id(filled) not in fresh
                or tensors(operation.arguments[1:])
            ):
                raise Refused(f"{name} draws random numbers that depend on others")
            if id(filled) in self._drawn:
                raise Refused(f"{name} draws into the same tensor twice")
            assert isinstance(filled, Tensor)
            self._drawn.add(id(filled))
            self._nodes[id(filled)] = self._graph.placeholder(f"drawn_{len(self.draws)}")
            self.draws.append((torch.empty_like(filled), operation))

    def ends_at(self, forward: Sequence[Operation]) -> int:
        """How many of the operations belong to the forward part."""
        those = {id(operation) for operation in forward}
        return sum(id(operation) in those for operation in self.operations)

    def changed(self, operations: Sequence[Operation]) -> list[Tensor]:
        """Return the constants whose memory these operations write to, by whatever view."""
        written = set()
        for operation in operations:
            schema = operation.function._schema
            for value, argument in zip(operation.arguments, schema.arguments, strict=True):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written |= {_memory(tensor) for tensor in tensors(value)}
        return [tensor for tensor in self.constants if _memory(tensor) in written]

    def copies(self, changed: Sequence[Tensor]) -> list[fx.Node]:
        """Write copies of these tensors; inductor finds out that it needs none."""
        return [self._call(_aten.clone.default, self._nodes[id(tensor)]) for tensor in changed]

    def keep_where_not_finite(
        self, values: Sequence[Tensor], changed: Sequence[Tensor], before: Sequence[fx.Node]
    ) -> None:
        """Undo the writes where one of ``values`` is not finite."""
        finite = [self._call(_aten.isfinite.default, self._nodes[id(value)]) for value in values]
        both = self._call(_aten.logical_and.default, *finite)
        for tensor, old in zip(changed, before, strict=True):
            node = self._nodes[id(tensor)]
            chosen = self._call(_aten.where.self, both, node, old)
            self._call(_aten.copy_.default, node, chosen)

    def module(self, outputs: Sequence[Tensor]) -> fx.GraphModule:
        """Return the graph as a module."""
        self._graph.output([self._nodes[id(tensor)] for tensor in outputs])
        return fx.GraphModule(torch.nn.Module(), self._graph)

    def write(self, operation: Operation) -> None:
        """Write one operation."""
        made = operation.outputs
        if (
            isinstance(made, Tensor)
            and id(made) in self._drawn
            and (
                operation.function._schema.name in _EMPTY
                or torch.Tag.nondeterministic_seeded in operation.function.tags
            )
        ):
            return
        name = operation.function._schema.name.partition("::")[2]
        node = self._node(name, operation)
        if isinstance(made, Tensor):
            self._nodes[id(made)] = node
        else:
            for number, tensor in enumerate(made or ()):
                if isinstance(tensor, Tensor):
                    item = self._graph.call_function(operator.getitem, (node, number))
                    self._nodes[id(tensor)] = item

    def _node(self, name: str, operation: Operation) -> fx.Node:
        arguments = operation.arguments
        plain = name.removesuffix("_")
        if name in _SUMS and len(arguments) == 3 and _is_not_one(arguments[2]):
            # written out: inductor has left a product's factor away (torch 2.13, CPU)
            product = self._call(_aten.mul.Tensor, arguments[1], arguments[2])
            return self._call(_SUMS[name], arguments[0], product)
        if plain in _PRODUCTS and isinstance(arguments[3], Number):
            product = self._call(_PRODUCTS[plain], arguments[1], arguments[2])
            product = self._call(_aten.mul.Tensor, product, arguments[3])
            return self._call(_SUMS["add" + name[len(plain) :]], arguments[0], product)
        if _has_number(arguments) and not (
            plain in _TAKE_TENSORS and operation.function._overloadname == "Tensor"
        ):
            raise Refused(f"{name} takes the optimizer's changing numbers as they are")
        positional, keywords = by_kind(operation, [self._value(value) for value in arguments])
        return self._graph.call_function(operation.function, tuple(positional), keywords)

    def _call(self, function: Any, *arguments: Any) -> fx.Node:
        return self._graph.call_function(function, tuple(self._value(a) for a in arguments))

    def _value(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._nodes[id(value)]
        if isinstance(value, Number):
            if value.place not in self._scalars:
                arguments = (self._numbers, 0, value.place)
                self._scalars[value.place] = self._graph.call_function(_aten.select.int, arguments)
            return self._scalars[value.place]
        if isinstance(value, (list, tuple)):
            return [self._value(part) for part in value]
        return value


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_not_one(value: Any) -> bool:
    return isinstance(value, Number) or value != 1


def _has_number(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_number(part) for part in value)
    return isinstance(value, Number)
