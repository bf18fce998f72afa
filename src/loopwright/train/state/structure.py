"""What a run is made of beside its numbers: layers, the order of parameters, schedules.

All of it changes what comes out and none of it is seen in a checkpoint's shapes: another dropout, an
optimizer that holds the same parameters in another order (made from a ``set``, say: its moments would
go to the wrong ones), another ``gamma``. So it belongs to the run's identity, and a resume compares it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from loopwright.train.prepare import parameter_names
from loopwright.train.update.schedules import Schedule
from loopwright.train.update.warmup import Warmup

_MOVING = frozenset({
    "base_lrs",  # the optimizer's groups have them, and a change of lr is allowed there
    "last_epoch", "best", "num_bad_epochs", "cooldown_counter", "mode_worse", "T_cur", "T_i",
})  # fmt: skip
"""Attributes of torch's schedulers that are no settings."""


class Setting(NamedTuple):
    """One setting of a scheduler: what it is called, and where it stands."""

    name: str
    scheduler: Any
    attribute: str
    value: Any


def describe(
    models: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    schedules: dict[str, Schedule],
) -> dict[str, Any]:
    """Return plain facts, one name a fact.

    Args:
        models: by name; torch's own layers are described, in words that do not depend on the process.
        optimizers: by name.
        schedules: by the name of their optimizer, as they are before the first step.
    """
    facts: dict[str, Any] = {}
    names = parameter_names(models)
    for key, model in models.items():
        for name, module in model.named_modules():
            kind = _given_class(module)
            if kind.__module__.startswith("torch.nn.modules.") and not module._modules:
                said = f"{kind.__name__}({module.extra_repr()})"
                facts[f"{key} {name} layer" if name else f"{key} layer"] = said
    for key, optimizer in optimizers.items():
        for i, group in enumerate(optimizer.param_groups):
            held = [names.get(p, "of no model") for p in group["params"]]
            if held:
                total = zlib.crc32("\n".join(held).encode())
                facts[f"{key} group {i} order"] = f"{held[0]} … {held[-1]} ({total:08x})"
    for key, schedule in schedules.items():
        said = schedule.kind if schedule.metric is None else f"{schedule.kind} {schedule.metric}"
        facts[f"scheduler {key} steps per"] = said
        if isinstance(schedule.scheduler, Warmup):
            facts[f"scheduler {key} shape"] = repr(schedule.scheduler)
        facts.update({one.name: plain(one.value) for one in settings(key, schedule)})
    return facts


def _given_class(module: nn.Module) -> type:
    """Return a module's class without what FSDP2 puts in front of it."""
    bases = type(module).__bases__
    return bases[-1] if bases[0].__name__ == "FSDPModule" else type(module)


def settings(key: str, schedule: Schedule) -> Iterator[Setting]:
    """Yield the settings of a schedule that is bound, and of those that it is made of."""
    if schedule.bound:
        yield from _settings(f"scheduler {key}", schedule.scheduler)


def _settings(place: str, scheduler: Any) -> Iterator[Setting]:
    for attribute, value in getattr(scheduler, "__dict__", {}).items():
        if not attribute.startswith("_") and attribute not in _MOVING and _is_plain(value):
            yield Setting(f"{place} {attribute}", scheduler, attribute, value)
    for i, inner in enumerate(getattr(scheduler, "_schedulers", ())):
        yield from _settings(f"{place} {i}", inner)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int, str))


def plain(value: Any) -> Any:
    """Return a JSON value for a setting."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return getattr(value, "__qualname__", None) or type(value).__qualname__
