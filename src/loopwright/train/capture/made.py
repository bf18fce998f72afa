"""What the graph of a forward and backward pass makes, and what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
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


def as_kept(
    parameters: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[tuple[Tensor, Tensor]]:
    """Pair parameters with gradients that lie in memory as ``backward()`` would leave them in ``.grad``.

    A norm adds up in the order of memory. What lies otherwise (transposed, expanded, or as another
    parameter's gradient as well) is copied, as autograd does.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    seen: set[int] = set()
    for parameter, grad in zip(parameters, grads, strict=True):
        if grad is None:
            continue
        memory = grad.untyped_storage().data_ptr()
        kept = torch.empty_like(parameter)
        if memory in seen or _strides(grad) != _strides(kept):
            grad = kept.copy_(grad)
        seen.add(memory)
        pairs.append((parameter, grad))
    return pairs


def _strides(tensor: Tensor) -> list[int]:
    """Return how far apart elements lie, where there are several."""
    return [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]


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
