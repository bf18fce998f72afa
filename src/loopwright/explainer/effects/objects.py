"""What a statement made besides tensors: modules, optimizers, loaders, schedulers, in a few numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from loopwright.explainer.effects import values

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


def _is_lazy(parameter: Any) -> bool:
    return isinstance(parameter, torch.nn.parameter.UninitializedParameter)


def optimizer_facts(optimizer: Any) -> dict[str, Any]:
    """What it updates, and its settings."""
    first = optimizer.param_groups[0] if optimizer.param_groups else {}
    return {
        **_counted([p for group in optimizer.param_groups for p in group["params"]]),
        "groups": len(optimizer.param_groups),
        "settings": _settings(first),
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
    """A tensor, or the first ones in a list, tuple or dict of them."""
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    if isinstance(value, dict):
        inner = [(f"{name}[{key!r}]", one) for key, one in list(value.items())[: 2 * limit]]
    elif isinstance(value, (list, tuple)):
        inner = [(f"{name}[{index}]", one) for index, one in enumerate(value[:limit])]
    else:
        return []
    return [(called, one) for called, one in inner if isinstance(one, torch.Tensor)][:limit]


def further(value: Any) -> int:
    """How many tensors a list, tuple or dict holds beyond those that ``tensors_in`` finds."""
    held = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list, tuple)) or len(value) > COUNTED:
        return 0
    return sum(isinstance(one, torch.Tensor) for one in held) - len(tensors_in(value, ""))
