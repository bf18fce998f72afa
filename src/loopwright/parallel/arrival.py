"""The order in which gradients come to a DDP, by which it puts them together from its second backward on.

In its first one it goes by the order in which parameters were registered. Three ranks and more add up each
piece of a message in an order that depends on where the piece is, so the same gradients had other last bits
in a process that went on from a checkpoint than in one that had never ended. So the order is noted, kept in
checkpoints, and played to a new DDP, with zeros, before its first turn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

MATTERS_FROM = 3
"""Ranks: two numbers have one sum."""


class Arrival:
    """The order of one module's gradients.

    Attributes:
        names: of the parameters, in that order; None until it is known.
    """

    def __init__(self, module: DistributedDataParallel):
        self.names: list[str] | None = None
        self._module = module
        self._seen: dict[str, None] = {}
        self._handles: list[Any] = []

    def watch(self) -> None:
        """Note the order in the first backward that averages."""
        for name, parameter in _parameters(self._module).items():
            self._handles.append(parameter.register_post_accumulate_grad_hook(_Noted(self, name)))

    def note(self, name: str) -> None:
        """A gradient has come."""
        if self._module.require_backward_grad_sync:
            self._seen[name] = None

    def settle(self) -> bool:
        """Between turns: whether nothing is left to be seen."""
        if self._seen:
            self.let_go()
            if len(self._seen) == len(_parameters(self._module)):
                self.names = [*self._seen]
        return not self._handles

    def let_go(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def play(self, names: list[str]) -> None:
        """Let gradients of zeros come in that order; all ranks at once. What the parameters hold stays."""
        parameters = _parameters(self._module)
        if sorted(names) != sorted(parameters) or not _is_quiet(self._module, parameters):
            return
        kept = {name: one.grad for name, one in parameters.items()}
        self._module.reducer.prepare_for_forward()
        self._module.reducer.prepare_for_backward([])
        for one in parameters.values():
            one.grad = None
        for name in names:
            torch.autograd.backward(parameters[name], torch.zeros_like(parameters[name]))
        for name, one in parameters.items():
            one.grad = kept[name]
        self.names = names


class _Noted:
    """A parameter's hook."""

    def __init__(self, arrival: Arrival, name: str):
        self._arrival, self._name = arrival, name

    def __call__(self, _: Any) -> None:
        self._arrival.note(self._name)


def arrival_of(module: nn.Module, ranks: int) -> Arrival | None:
    """Return what notes a module's order; None where it has none, or the order changes nothing."""
    if (
        ranks < MATTERS_FROM
        or not isinstance(module, DistributedDataParallel)
        or module.find_unused_parameters  # it never puts them together anew
        or module.static_graph
        or module.mixed_precision is not None
    ):
        return None
    return Arrival(module)


def _parameters(module: DistributedDataParallel) -> dict[str, nn.Parameter]:
    """The parameters whose gradients it averages, by name."""
    ids = set(map(id, module._module_parameters))
    return {name: one for name, one in module.module.named_parameters() if id(one) in ids}


def _is_quiet(module: DistributedDataParallel, parameters: dict[str, nn.Parameter]) -> bool:
    """Whether gradients of zeros run nothing of the program's: no parameter's hook, and no message's."""
    return not module._comm_hooks and not any(
        one._backward_hooks or one._post_accumulate_grad_hooks or not one.requires_grad
        for one in parameters.values()
    )
