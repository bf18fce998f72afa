"""Several turns in one call: a loop of the interpreter's own around the recorded step.

Between two replayed turns the processor works through some 100 µs of Python, and finds its caches cold when
the next one begins: the digits' step takes 110 µs then, and 70 in here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from loopwright.train.capture.graph import Writer, as_written, function_of
from loopwright.train.capture.record import Operation
from loopwright.train.capture.simplify import is_a_view, simplified, tensors

_TEXT = """graph({head}):
  %losses : float[] = prim::ListConstruct()
  %norms : float[] = prim::ListConstruct()
  %on : bool = prim::Constant[value=1]()
  %numbers_each : int = prim::Constant[value={each}]()
{once}
  prim::Loop(%count, %on)
    block0(%turn : int):
{taken}
{forward}
      %the_loss : float = aten::Float({loss})
      %the_norm : float = aten::Float({norm})
      %loss_is : bool = aten::isfinite(%the_loss)
      %norm_is : bool = aten::isfinite(%the_norm)
      %both_are : bool = aten::__and__(%loss_is, %norm_is)
      prim::If(%both_are)
        block0():
          %first : int = aten::mul(%turn, %numbers_each)
{numbers}
{update}
          %kept_loss : float[] = aten::append(%losses, %the_loss)
          %kept_norm : float[] = aten::append(%norms, %the_norm)
          -> ()
        block1():
          -> ()
      -> (%both_are)
  %out : (float[], float[]) = prim::TupleConstruct(%losses, %norms)
  return (%out)
"""


class Turns:
    """A function of batches that trains on one after the other, up to one that is not finite.

    Args:
        forward: operations from the batch to loss, gradients and their norm.
        update: operations that clip and step.
        inputs: the batch's tensors.
        outputs: loss, norm and gradients, as ``forward`` made them.
        each: how many numbers an update has.

    Raises:
        Refused: an argument that the intermediate form has no word for.
    """

    def __init__(
        self,
        forward: Sequence[Operation],
        update: Sequence[Operation],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        each: int,
    ):
        writer = Writer(inputs)
        forward, made = simplified(forward, outputs)
        before, forward = _of_constants(forward, inputs)
        for operation in before:
            writer.operation(operation)
        once = writer.take()
        for operation in forward:
            writer.operation(operation)
        for given, same in zip(outputs, made, strict=True):
            writer.also(given, same)
        first = writer.take()
        assert all(kind is None for kind, _ in writer.floats), "a forward pass knows no rate"
        update, _ = simplified(update, [outputs[1]])
        for operation in update:
            writer.operation(operation)
        loss, norm = writer.names(made[:2])
        moving = [(f"%f{i}", kind) for i, (kind, _) in enumerate(writer.floats) if kind is not None]
        batches = [f"%batches{i}" for i in range(len(inputs))]
        self._constants = writer.constants
        self._fixed = [value for kind, value in writer.floats if kind is None]
        head = ["%count : int", *(f"{name} : Tensor[]" for name in batches), "%numbers : float[]"]
        head += [f"{name} : Tensor" for name in writer.names(self._constants)]
        head += [f"%f{i} : float" for i, (kind, _) in enumerate(writer.floats) if kind is None]
        taken = [
            f"{name} : Tensor = aten::__getitem__({many}, %turn)"
            for name, many in zip(writer.names(inputs), batches, strict=True)
        ]
        numbers = []
        for name, place in moving:
            at = name.replace("%f", "%at")
            numbers += [
                f"{at}_in : int = prim::Constant[value={place}]()",
                f"{at} : int = aten::add(%first, {at}_in)",
                f"{name} : float = aten::__getitem__(%numbers, {at})",
            ]
        self.text = _TEXT.format(
            head=", ".join(head), each=each, loss=loss, norm=norm,
            once=_indented(once, 2), taken=_indented(taken, 6), forward=_indented(first, 6),
            numbers=_indented(numbers, 10), update=_indented(writer.take(), 10),
        )  # fmt: skip
        self._function = function_of(self.text)

    def __call__(
        self, batches: Sequence[Sequence[Tensor]], rows: Sequence[Sequence[float]]
    ) -> tuple[list[float], list[float]]:
        """Train on the batches; returns the losses and gradient norms of the turns that were finite.

        Args:
            batches: the tensors of each.
            rows: the numbers of each update.
        """
        columns = [list(column) for column in zip(*batches, strict=True)]
        numbers = [number for row in rows for number in row]
        with as_written():
            return self._function(len(batches), *columns, numbers, *self._constants, *self._fixed)


def _of_constants(
    operations: Sequence[Operation], inputs: Sequence[Tensor]
) -> tuple[list[Operation], list[Operation]]:
    """Return the views of what is no turn's own, which are made before the first, and the rest."""
    own = {id(tensor) for tensor in inputs}
    before, rest = [], []
    for operation in operations:
        if is_a_view(operation) and not any(id(t) in own for t in tensors(operation.arguments)):
            before.append(operation)
            continue
        rest.append(operation)
        own |= {id(tensor) for tensor in tensors(operation.outputs)}
    return before, rest


def _indented(lines: Sequence[str], by: int) -> str:
    return "\n".join(" " * by + line.strip() for line in lines)
