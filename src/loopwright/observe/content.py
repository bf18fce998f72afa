"""Looking at values: samples, norms, comparisons that leave no trace in the program.

Version counters do not say whether a tensor moved (fused optimizers bump none, ``.data`` hides all), so
contents are compared, but only at steps 1, 2, 4, 8, ... and around anomalies, and only a sample of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes

BUDGET = 1 << 21
"""Elements that are copied whole at most for one comparison; beyond it a sample is taken."""
SAMPLED = 64


@contextmanager
def quiet() -> Iterator[None]:
    """Operations inside build no graph and are seen by no mode, subclass or profiler of the program's."""
    with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def readable(tensor: object) -> bool:
    """True for an ordinary tensor whose values can be read: dense, real storage, no transform around it."""
    return (
        isinstance(tensor, torch.Tensor)
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and not tensor.is_quantized
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def sample(tensor: torch.Tensor, count: int = SAMPLED) -> torch.Tensor:
    """A copy of up to ``count`` elements, evenly spread, on the tensor's device (6 µs)."""
    with quiet():
        flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else tensor.detach().flatten()
        step = max(1, flat.numel() // count)
        return flat[::step][:count].clone()


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Bitwise equal, nan equal to itself."""
    with quiet():
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        return bool(torch.equal(first, second)) or bool(
            ((first == second) | (first.isnan() & second.isnan())).all()
        )


def all_zero(tensor: torch.Tensor) -> bool:
    """True when no element differs from zero."""
    with quiet():
        if tensor.layout != torch.strided:
            tensor = tensor.coalesce().values() if tensor.is_sparse else tensor.to_dense()
        return not bool(tensor.detach().any())


def norm(tensors: Iterable[torch.Tensor]) -> float:
    """The L2 norm of all elements together."""
    with quiet():
        parts = [float(torch.linalg.vector_norm(one.detach().to(torch.float32))) for one in tensors]
    return math.sqrt(sum(part * part for part in parts))


def copies(tensors: Sequence[torch.Tensor], budget: int = BUDGET) -> list[torch.Tensor] | None:
    """Copies of all tensors; None where they are more than ``budget`` elements together."""
    if sum(one.numel() for one in tensors) > budget:
        return None
    with quiet():
        return [one.detach().clone() for one in tensors]


def is_power_of_two(number: int) -> bool:
    """True at 1, 2, 4, 8, ...: when something is looked at closely."""
    return number & (number - 1) == 0 and number > 0
