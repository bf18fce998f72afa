"""Everything that two runs of one program must agree on, flat: path -> tensor or plain value."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import loopwright as lw

FOUND: dict[str, Any] = {}
"""What this program has come to."""


def note(path: str, value: Any) -> None:
    """Note a value of any kind under a path."""
    if isinstance(value, Tensor):
        FOUND[path] = value.detach().clone()
    elif isinstance(value, np.ndarray):
        FOUND[path] = torch.from_numpy(value.copy()) if value.dtype.kind != "u" else value.tolist()
    elif isinstance(value, Mapping):
        FOUND[path] = f"{len(value)} entries"
        for key, item in value.items():
            note(f"{path}/{key}", item)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        FOUND[path] = f"{len(value)} items"
        for index, item in enumerate(value):
            note(f"{path}/{index}", item)
    else:
        FOUND[path] = (
            value if isinstance(value, (int, float, str, bytes, type(None))) else repr(value)
        )


def note_run(name: str, run: lw.Run, tracked: Any) -> None:
    """Note all of a run that a killed and continued one must have too; no times."""
    for key, module in run.models.items():
        note(f"{name}/model/{key}", module.state_dict())
        note(f"{name}/modes/{key}", [m.training for m in module.modules()])
    for key, optimizer in run.optimizers.items():
        note(f"{name}/optimizer/{key}", optimizer.state_dict())
    for key, one in run.schedules.items():
        note(f"{name}/schedule/{key}", one.state_dict())
    note(f"{name}/precision", run.precision.state_dict())
    note(f"{name}/averaged", run.weights(averaged=True))
    note(f"{name}/best", run.best)
    note(f"{name}/kept", run.kept)
    note(f"{name}/tracked", tracked.state_dict())
    note(f"{name}/totals", {k: v for k, v in run.totals.items() if "second" not in k})
    note(f"{name}/outcome", [run.outcome.kind, run.outcome.reason])
    rows = [(r.loop, r.epoch, r.turn, dict(r.values)) for r in run.history.epochs]
    note(f"{name}/epochs", rows)
    note(f"{name}/curves", {key: [one.x, one.y] for key, one in run.history.series.items()})


def note_generators(name: str, loader: Any) -> None:
    """Note where every generator stands, without drawing."""
    state = random.getstate()
    note(f"{name}/random", repr(state))
    note(f"{name}/numpy", repr([np.asarray(x).tolist() for x in np.random.get_state()]))  # noqa: NPY002
    note(f"{name}/torch", torch.get_rng_state())
    for place in (loader, getattr(loader, "sampler", None)):
        if isinstance(own := getattr(place, "generator", None), torch.Generator):
            note(f"{name}/own", own.get_state())


def save() -> None:
    """Write it where the watcher looks, whole or not at all."""
    base = Path(os.environ.get("FAULTS_BASE", "."))
    torch.save(FOUND, base / "result.new")
    (base / "result.new").rename(base / "result.pt")
