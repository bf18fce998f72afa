"""What makes two commands *the same* run: settings, model shapes, optimizer groups, data."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loopwright.errors import CheckpointError, LoopwrightWarning
from loopwright.train.state import structure
from loopwright.train.state.structure import plain

if TYPE_CHECKING:
    from loopwright.train.run import Run

WARNED_ONLY = {"threads", "torch", "python", "numpy", "loopwright", "device", "processor", "matmul",
               "cudnn", "deterministic", "denormals", "ranks"}  # fmt: skip
"""Differences under which a resumed run goes on, with a warning that its bits may differ."""


SHAPE = re.compile(r"(number|\d+(×\d+)*) (float|bfloat|int|uint|bool|complex)\d*\w*")
"""How ``describe`` writes the shape and dtype of a weight."""
VALUE = re.compile(r"(?:setting|optimizer (?:\S+ )?group \d+) (\S+)")
"""A fact whose last word is enough to allow it, wherever else it stands."""
MOST_NAMES = 6


LIMITS = ("epochs", "steps", "minutes", "samples", "tokens")


def of_run(run: Run, engine: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a run; how long it trains is no part of it."""
    schedules = {key: plain(schedule.scheduler) for key, schedule in run.schedules.items()}
    facts = describe(
        run.models, run.optimizers,
        {**engine, "ema": None if run.ema is None else repr(run.ema), "scheduler": schedules or None},
        {name: value for name, value in settings.items() if name not in LIMITS},
    )  # fmt: skip
    return facts | structure.describe(run.models, run.optimizers, run.schedules)


def describe(
    models: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    engine: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return the identity of a run as plain JSON values, flat, one name a fact."""
    facts: dict[str, Any] = {f"setting {name}": plain(value) for name, value in settings.items()}
    facts.update({name: plain(value) for name, value in engine.items()})
    for key, module in models.items():
        for name, tensor in module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                shape = "×".join(map(str, tensor.shape)) or "number"
                facts[f"{key} {name}"] = f"{shape} {str(tensor.dtype).removeprefix('torch.')}"
    for key, optimizer in optimizers.items():
        facts[f"{key} class"] = type(optimizer).__name__
        for i, group in enumerate(optimizer.param_groups):
            for name, value in group.items():
                if name == "params":
                    facts[f"{key} group {i} parameters"] = len(value)
                elif name != "initial_lr":
                    facts[f"{key} group {i} {name}"] = plain(value)
    return facts


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, then, now) of every fact that differs."""
    names = [*old, *(name for name in new if name not in old)]
    gone = "—"
    return [
        (name, old.get(name, gone), new.get(name, gone))
        for name in names
        if old.get(name, gone) != new.get(name, gone)
    ]


def refuse_if_different(
    old: dict[str, Any],
    new: dict[str, Any],
    folder: str,
    allowed: tuple[str, ...] = (),
    *,
    what: str = "holds a run with other settings",
    hint: str = "",
) -> None:
    """Raise CheckpointError with a table of what differs, unless every name is allowed."""
    rows = [row for row in differences(old, new) if not is_allowed(row[0], allowed)]
    if not rows:
        return
    shown = rows[:12]
    wide = [max(len(str(row[i])) for row in (*shown, ("setting", "then", "now"))) for i in range(2)]
    table = "\n".join(
        f"    {row[0]!s:<{wide[0]}}  {row[1]!s:<{wide[1]}}  {row[2]}"
        for row in (("setting", "then", "now"), *shown)
    )
    more = f"\n    … and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
    raise CheckpointError(
        f"{folder} {what}\n{table}{more}",
        slug="another-run",
        hint=f'{hint}another out=, resume="never" (the old folder is put aside), or {_way_on(rows, folder)}',
    )


def _way_on(rows: list[tuple[str, Any, Any]], folder: str) -> str:
    """Return how the change itself can be had: values may be allowed, other shapes begin anew."""
    if any(SHAPE.fullmatch(str(one)) for row in rows for one in row[1:]):
        return f'lw.load_weights("{folder}", model, strict=False) for the weights that fit'
    names: list[str] = []
    for name, *_ in rows:
        if not is_allowed(name, tuple(names)):
            found = VALUE.fullmatch(name)
            names.append(found[1] if found else name)
    if len(names) > MOST_NAMES:  # a first word allows all that begins with it
        names = list(dict.fromkeys(name.partition(" ")[0] for name in names))
    more = ", …" if len(names) > MOST_NAMES else ""
    shown = ", ".join(map(repr, names[:MOST_NAMES]))
    return f"allow_change=[{shown}{more}] to go on with the change{'s' if len(rows) > 1 else ''}"


def is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a fact may differ: it was named, or its last word was (``lr``, ``hidden``)."""
    return any(name == one or name.startswith(f"{one} ") or name == f"setting {one}"
               or name.endswith(f" {one}") for one in allowed)  # fmt: skip


def warn_if_elsewhere(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Warn when a run goes on under another version, device, processor or thread count."""
    rows = [row for row in differences(old, new) if row[0] in WARNED_ONLY]
    if rows:
        what = ", ".join(f"{name} {then} → {now}" for name, then, now in rows)
        warnings.warn(
            f"resumed under other conditions ({what}): the bits may differ from an uninterrupted "
            "run  [resumed-elsewhere]",
            LoopwrightWarning,
            stacklevel=2,
        )
