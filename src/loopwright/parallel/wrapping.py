"""DDP around a model: the gradients are averaged over the ranks while backward runs, where an update is due.

Inside an accumulation window nothing is sent. ``evaluate`` calls the bare module, which sends nothing at
all, so ranks may have unequal numbers of batches there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

DDP = DistributedDataParallel


class OverRanks(DDP):
    """DDP that answers for its module: ``run.model.encoder`` is the same with one process and with many."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def bare(module: nn.Module) -> nn.Module:
    """Return the module inside of DDP."""
    return module.module if isinstance(module, DDP) else module


def wrap(module: nn.Module, device: torch.device, keywords: Mapping[str, Any]) -> nn.Module:
    """Return ``module`` for all ranks, with the first rank's weights in every one.

    A module that DDP is around already is returned as it is, one with nothing to train also.
    """
    if isinstance(module, DDP) or not any(p.requires_grad for p in module.parameters()):
        return module
    ids = None if device.type == "cpu" else [device]
    return OverRanks(module, device_ids=ids, **keywords)


def synchronise(module: nn.Module, *, wanted: bool) -> None:
    """Let the coming forward and backward pass average the gradients over the ranks, or not.

    DDP's attribute is what ``no_sync()`` sets; a loop's body can't stand inside of that.
    """
    if isinstance(module, DDP):
        if module.require_backward_grad_sync is not wanted:  # setting it takes a module 10 µs
            module.require_backward_grad_sync = wanted
    elif callable(let := getattr(module, "set_requires_gradient_sync", None)):  # FSDP2
        let(wanted)


def takes_buffers(module: nn.Module) -> bool | None:
    """Whether the coming forward begins with the first rank's buffers; None where no DDP decides that.

    It does after a forward that averaged gradients, and at first: not inside an accumulation window.
    """
    return module.require_forward_param_sync if isinstance(module, DDP) else None


def let_take_buffers(module: nn.Module, takes: bool | None) -> None:
    """Let the coming forward begin as ``takes_buffers`` said of it in an earlier process."""
    if isinstance(module, DDP) and takes is not None:
        module.require_forward_param_sync = takes


class Guarded:
    """A hook before a wrapped module's forward: called past its DDP, it would train one rank alone.

    In a pickle or a deep copy of the module it is a function that does nothing.
    """

    def __init__(self, refuse: Callable[[], None]):
        self._refuse = refuse

    def __call__(self, *_: Any) -> None:
        """Refuse a forward with gradients outside of every DDP's."""
        if torch.is_grad_enabled() and DDP._active_ddp_module is None:
            self._refuse()

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__


def guard(module: nn.Module, refuse: Callable[[], None]) -> Any:
    """Watch a module that ``wrap`` has wrapped; returns the hook's handle, None where it is not watched."""
    bare_one = bare(module)
    if bare_one is module or bare_one._compiled_call_impl is not None:
        return None
    return bare_one.register_forward_pre_hook(Guarded(refuse))
