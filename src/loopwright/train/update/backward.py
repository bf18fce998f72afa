"""The backward pass of one loss: the call of torch's engine, without what stands before it.

``loss.backward()`` looks at its arguments for 10 to 17 µs (of 90 on a small model), to find that the loss
is one number, which was seen before. Where that is all there is, the engine is called as torch calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import graph
from torch.overrides import has_torch_function

_engine: Any = getattr(graph, "_engine_run_backward", None)
_is_transformed: Any = getattr(torch._C, "_are_functorch_transforms_active", None)
_KNOWN = _engine is not None and _is_transformed is not None


def backward_of(
    loss: Tensor, *, retain_graph: bool, inputs: Sequence[Tensor] | None
) -> Callable[[], None]:
    """Return the call that adds the gradients of ``loss`` to the leaves, or to ``inputs`` alone.

    It does what ``torch.autograd.backward`` does, and is that where somebody listens to it: a tensor or a
    mode with a function of its own, a tool that has put its code in that function's place.

    Args:
        loss: one real number, attached to a graph.
        retain_graph: as torch's.
        inputs: as torch's.
    """
    if (
        not _KNOWN or inputs is not None or has_torch_function((loss,)) or _is_transformed()
        or _is_watched() or not loss.is_floating_point()
    ):  # fmt: skip
        return partial(torch.autograd.backward, loss, retain_graph=retain_graph, inputs=inputs)
    return partial(
        _engine, (loss,), (torch.ones_like(loss),), retain_graph, False, (),
        allow_unreachable=True, accumulate_grad=True,
    )  # fmt: skip


def _is_watched() -> bool:
    """Whether other code stands in torch's function, from before this module was imported or since."""
    return "_engine_run_backward" not in torch.autograd.backward.__code__.co_names
