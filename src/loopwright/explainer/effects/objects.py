"""What a statement made besides tensors: modules, optimizers, loaders, schedulers, in a few numbers."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from loopwright.explainer.effects import values

NESTED, LOOKED = 3, 8
"""Containers in containers that are looked into, and items of each."""
MAPPINGS = (dict, UserDict)
COUNTED = 10_000
"""Items of a container that are looked at to count its tensors."""


def describe(value: Any, name: str) -> dict[str, Any] | None:
    """Facts about an object that a training is made of; None for any other."""
    facts: dict[str, Any] = {"name": name, "kind": type(value).__name__}
    if isinstance(value, torch.nn.Module):
        return {"is": "module", **facts, **module_facts(value)}
    if isinstance(value, torch.optim.Optimizer):
        return {"is": "optimizer", **facts, **optimizer_facts(value)}
    if isinstance(value, DataLoader):
        return {"is": "loader", **facts, **loader_facts(value)}
    if isinstance(value, LRScheduler):
        return {"is": "scheduler", **facts}
    if isinstance(value, Dataset):
        return {"is": "dataset", **facts, "samples": _length(value)}
    return None


def module_facts(module: torch.nn.Module) -> dict[str, Any]:
    """How many modules, parameters, bytes."""
    parameters = [p for p in module.parameters() if not _is_lazy(p)]
    return {
        "modules": sum(1 for _ in module.modules()),
        "tensors": len(parameters),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "bytes": sum(values.bytes_of(p) for p in parameters),
        "buffers": sum(1 for _ in module.buffers()),
        "training": module.training,
    }


def drops(module: torch.nn.Module) -> bool:
    """It drops some of its numbers in train mode; with a share of 0 torch draws no mask."""
    if "Dropout" in type(module).__name__:
        return bool(getattr(module, "p", 1.0))
    if isinstance(module, torch.nn.RNNBase):
        return bool(module.dropout) and module.num_layers > 1
    return isinstance(module, torch.nn.MultiheadAttention) and bool(module.dropout)


def is_batch_norm(module: torch.nn.Module) -> bool:
    """It takes statistics of the batch in train mode."""
    return "BatchNorm" in type(module).__name__


def _is_lazy(parameter: Any) -> bool:
    return isinstance(parameter, torch.nn.parameter.UninitializedParameter)


def optimizer_facts(optimizer: Any) -> dict[str, Any]:
    """What it updates, and its settings."""
    first = optimizer.param_groups[0] if optimizer.param_groups else {}
    return {
        **_counted([p for group in optimizer.param_groups for p in group["params"]]),
        "groups": len(optimizer.param_groups),
        "settings": _settings(first),
        **_by_group(optimizer.param_groups),
        "flags": [
            key for key in ("nesterov", "amsgrad", "maximize", "fused", "foreach") if first.get(key)
        ],
    }


def group_facts(optimizer: Any) -> dict[str, Any]:
    """The group that it was given last, and what it updates with it."""
    group = optimizer.param_groups[-1]
    every = [p for one in optimizer.param_groups for p in one["params"]]
    return {
        **_counted(group["params"]),
        "settings": _settings(group),
        "groups": len(optimizer.param_groups),
        "of": len(every),
    }


def _counted(parameters: list[Any]) -> dict[str, Any]:
    known = [p for p in parameters if isinstance(p, torch.Tensor) and not _is_lazy(p)]
    return {"tensors": len(parameters), "parameters": sum(p.numel() for p in known)}


def _by_group(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """What they have in common, and what each has of its own, where they differ."""
    every = [_settings(group) for group in groups]
    common = {key: value for key, value in every[0].items()
              if all(one.get(key) == value for one in every)} if every else {}  # fmt: skip
    own = [{key: value for key, value in one.items() if key not in common} for one in every]
    return {"common": common, "own": own} if any(own) else {}


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(group[key])
        if not isinstance(group[key], (tuple, list))
        else [float(x) for x in group[key]]
        for key in ("lr", "momentum", "dampening", "weight_decay", "betas", "eps", "alpha")
        if key in group and group[key] is not None
    }


def loader_facts(loader: Any) -> dict[str, Any]:
    """How many samples in how many batches."""
    return {
        "samples": _length(getattr(loader, "dataset", None)),
        "batches": _length(loader),
        "batch_size": getattr(loader, "batch_size", None),
        "workers": getattr(loader, "num_workers", 0),
        "drop_last": bool(getattr(loader, "drop_last", False)),
        "sampler": type(getattr(loader, "sampler", None)).__name__,
    }


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except (TypeError, NotImplementedError, ValueError):
        return None


def tensors_in(value: Any, name: str, limit: int = 4) -> list[tuple[str, torch.Tensor]]:
    """A tensor, or the first ones in a list, tuple or mapping of them, and in those inside."""
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    return list(islice(_tensors(value, name, NESTED), limit))


def _tensors(value: Any, name: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, MAPPINGS):
        inner = [(f"{name}[{key!r}]", one) for key, one in islice(value.items(), LOOKED)]
    elif isinstance(value, (list, tuple)):
        inner = [(f"{name}[{index}]", one) for index, one in enumerate(value[:LOOKED])]
    else:
        return
    for called, one in inner:
        if isinstance(one, torch.Tensor):
            yield called, one
        elif depth > 1:
            yield from _tensors(one, called, depth - 1)


def further(value: Any) -> int:
    """How many tensors a list, tuple or dict holds beyond those that ``tensors_in`` finds."""
    if not isinstance(value, (*MAPPINGS, list, tuple)) or len(value) > COUNTED:
        return 0
    held = value.values() if isinstance(value, MAPPINGS) else value
    return max(0, sum(isinstance(one, torch.Tensor) for one in held) - len(tensors_in(value, "")))
