"""Trying something with a model and its optimizer, and putting back every bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from loopwright.train.data.own_state import OwnState
from loopwright.train.process import randomness

__all__ = ["restored"]


@contextmanager
def restored(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    loader: Any = None,
) -> Iterator[None]:
    """Put weights, buffers, gradients, modes, optimizer state and random generators back afterwards.

    The same objects hold the same bits again. The copies lie in the CPU's memory, so that a trial has
    the accelerator's for itself.

    Args:
        model: may be trained and moved into any mode inside.
        optimizer: may be stepped, and its groups' settings changed.
        loader: its own generators are put back too; Python's, numpy's and torch's always are.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> before = model.weight.item()
    >>> with restored(model):
    ...     _ = model.weight.data.add_(1)
    >>> model.weight.item() == before
    True
    """
    parameters = list(model.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(m, dict(m._buffers)) for m in model.modules()]
    gradients = [(p, p.grad) for p in parameters]
    touched = [*parameters, *(b for _, own in buffers for b in own.values() if b is not None)]
    touched += [grad for _, grad in gradients if grad is not None]
    state: dict[Any, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    if optimizer is not None:
        state = {parameter: dict(values) for parameter, values in optimizer.state.items()}
        groups = [dict(group) for group in optimizer.param_groups]
        for values in [*state.values(), *groups]:
            touched += [value for value in values.values() if isinstance(value, Tensor)]
    lists = [(v, list(v)) for values in state.values() for v in values.values() if type(v) is list]
    touched += [part for _, parts in lists for part in parts if isinstance(part, Tensor)]
    saved = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in touched]
    try:
        with randomness.fork(device), OwnState(loader=loader).forked():
            for parameter in parameters:
                parameter.grad = None
            yield
    finally:
        with torch.no_grad():
            for tensor, copy in saved:
                tensor.copy_(copy)
        for parameter, grad in gradients:
            parameter.grad = grad
        for module, mode in modes:
            module.training = mode
        for module, own in buffers:
            module._buffers.clear()
            module._buffers.update(own)
        if optimizer is not None:
            optimizer.state.clear()
            optimizer.state.update(state)
            for own, parts in lists:  # LBFGS keeps its history in lists
                own[:] = parts
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.clear()
                group.update(values)
        torch.clear_autocast_cache()
