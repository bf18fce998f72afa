"""What the graph of a forward and backward pass makes, and what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from loopwright.train.data.batches import tensors


class Made:
    """What a graph makes, always in the same memory.

    Attributes:
        pairs: parameters and their gradients, clipped.
        numbers: the loss, the gradients' norm, and a number that is finite where both are.
        joined: the three in one tensor, where they are of one type.
        flag: 1.0 where they are not finite, else 0.0; None where the optimizer takes no flag.
        weight: of the loss; None where ``fn`` gave none.
    """

    def __init__(
        self,
        pairs: list[tuple[Tensor, Tensor]],
        numbers: tuple[Tensor, Tensor, Tensor],
        joined: Tensor | None,
        flag: Tensor | None,
        weight: Any,
    ):
        self.pairs = pairs
        self.numbers = numbers
        self.joined = joined
        self.flag = flag
        self.weight = weight


def unique(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch, each once."""
    seen = set()
    for tensor in tensors(batch):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor.detach()


def described(part: Any) -> str:
    """Say what a part of a batch is that no graph can be given."""
    return f"a tensor on {part.device}" if isinstance(part, Tensor) else f"a {type(part).__name__}"
