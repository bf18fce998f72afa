"""What a run measured: losses per turn, values per epoch; on disk as JSON lines, in memory bounded.

Losses on an accelerator wait there as 0-d tensors and come to the host together, at most twice a
second (``flush``), so that recording never waits for the device.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopwright.errors import DiskError
from loopwright.events import EpochRow, Series

POINTS = 4096
"""Points of a curve that are kept in memory; beyond, neighbours are merged into their mean."""


class History:
    """The curves and rows of a run.

    Attributes:
        series: curve name -> ``Series`` of at most ``POINTS`` points.
        epochs: one row an epoch.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.series: dict[str, Series] = {}
        self.epochs: list[EpochRow] = []
        self._stride: dict[str, int] = {}
        self._bucket: dict[str, list[float]] = {}
        self._first = 1
        self._loop = "0"
        self._losses: list[float | Tensor | None] = []
        self._weights: list[float | Tensor] = []
        self._lrs: list[float] = []
        self._norms: list[float | None] = []
        self.grad_norm: float | None = None  # of the last update
        self._last = 0  # the latest turn of any record
        self._mended = False

    # -- turns -------------------------------------------------------------------------------

    def turn(
        self, turn: int, loss: Any, weight: float | Tensor, lr: float, norm: float | None
    ) -> None:
        """Note one turn (1-based); ``loss`` is a float, a 0-d tensor, or None for a skipped batch."""
        if not self._losses:
            self._first = turn
        self._losses.append(loss)
        self._weights.append(weight)
        self._lrs.append(lr)
        self._norms.append(norm)
        if norm is not None:
            self.grad_norm = norm

    def flush(self, loop: str, seconds: float) -> tuple[list[float], list[float]]:
        """Bring what waits to the host and to the file; returns the losses and their weights."""
        if not self._losses:
            return [], []
        losses = [math.nan if x is None else x for x in to_host(self._losses)]
        weights = [x or 0.0 for x in to_host(list(self._weights))]
        skipped = [x is None for x in self._losses]
        first, lrs, norms = self._first, self._lrs, self._norms
        self._losses, self._weights, self._lrs, self._norms = [], [], [], []
        self.write(
            {
                "kind": "steps", "loop": loop, "first": first,
                "loss": [None if s else x for s, x in zip(skipped, losses, strict=True)],
                "lr": lrs, "grad_norm": norms, "seconds": round(seconds, 6),
            }
        )  # fmt: skip
        for offset, (loss, lr, norm) in enumerate(zip(losses, lrs, norms, strict=True)):
            if not skipped[offset]:
                self._point("loss", first + offset, loss)
            self._point("lr", first + offset, lr)
            if norm is not None:
                self._point("grad_norm", first + offset, norm)
        kept = [i for i, s in enumerate(skipped) if not s]
        return [losses[i] for i in kept], [weights[i] for i in kept]

    def log(self, turn: int, epoch: int, values: dict[str, float]) -> None:
        """Note named values at a turn."""
        self.write({"kind": "log", "turn": turn, "epoch": epoch, "values": values})
        for name, value in values.items():
            self._point(name, turn, value)

    def epoch(self, row: EpochRow) -> None:
        """Note an epoch's row."""
        self.epochs.append(row)
        self.write(
            {
                "kind": "epoch", "loop": row.loop, "epoch": row.epoch, "turn": row.turn,
                "seconds": round(row.seconds, 6), "values": row.values,
            }
        )  # fmt: skip

    def forget_after(self, turn: int) -> None:
        """Make the records of later turns void, if there are any: they will be trained again."""
        if self._last > turn or any(row.turn > turn for row in self.epochs):
            self.write({"kind": "resumed", "turn": turn})
            self.resumed(turn)

    def resumed(self, turn: int) -> None:
        """Forget the records of later turns."""
        self.epochs = [row for row in self.epochs if row.turn <= turn]
        for series in self.series.values():
            keep = sum(1 for x in series.x if x <= turn)
            del series.x[keep:], series.y[keep:]
        self._bucket.clear()
        self._last = min(self._last, turn)

    # -- memory and file ---------------------------------------------------------------------

    def _point(self, name: str, x: int, y: float) -> None:
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = Series(name)
            self._stride[name] = 1
        stride = self._stride[name]
        self._last = max(self._last, x)
        if stride > 1:
            bucket = self._bucket.setdefault(name, [])
            bucket.append(y)
            if len(bucket) < stride:
                return
            y = sum(bucket) / stride
            bucket.clear()
        series.x.append(x)
        series.y.append(y)
        if len(series.x) > POINTS:
            series.x = series.x[1::2]
            ys = series.y
            series.y = [(ys[i] + ys[i + 1]) / 2 for i in range(0, len(ys) - 1, 2)]
            series.x = series.x[: len(series.y)]
            self._bucket[name] = [y] * stride  # the odd one begins the next mean
            self._stride[name] = stride * 2

    def write(self, record: dict[str, Any]) -> None:
        """Append one line to the file, if there is one."""
        if self.path is None:
            return
        try:
            with self.path.open("a+b") as file:
                if not self._mended:  # a line that a crash cut off must not swallow this one
                    self._mended = True
                    if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                        file.write(b"\n")
                file.write(json.dumps(strict(record), allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise DiskError(
                f"cannot write {self.path}: {error.strerror or error}", slug="cannot-write"
            ) from error

    def _repr_html_(self) -> str:
        from loopwright.report.svg import curves

        return curves(self.series, self.epochs)


def read(path: Path) -> History:
    """Return the history that stands in a ``metrics.jsonl``; a torn last line is passed over."""
    history = History()
    if not path.exists():
        return history
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that a crash cut off
            if isinstance(record, dict):
                _replay(history, record)
    return history


def _replay(history: History, record: dict[str, Any]) -> None:
    kind = record.get("kind")
    if kind == "steps":
        for offset, (loss, lr, norm) in enumerate(
            zip(record["loss"], record["lr"], record["grad_norm"], strict=True)
        ):
            turn = record["first"] + offset
            for name, value in (("loss", loss), ("lr", lr), ("grad_norm", norm)):
                if value is not None:
                    history._point(name, turn, float(value))
    elif kind == "log":
        for name, value in record["values"].items():
            history._point(name, record["turn"], float(value))
    elif kind == "epoch":
        values = {name: float(value) for name, value in record["values"].items()}
        history.epochs.append(
            EpochRow(record["epoch"], record["turn"], record["seconds"], values, record["loop"])
        )
    elif kind == "resumed":
        history.resumed(record["turn"])


def to_host(values: list[Any]) -> list[float | None]:
    """Return floats for a list of floats, Nones and 0-d tensors, with one copy per device."""
    waiting = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    if not waiting:
        return values
    out = list(values)
    wide = torch.float32 if values[waiting[0]].device.type == "mps" else torch.float64
    stacked = torch.stack([values[i].detach().reshape(()).to(wide) for i in waiting]).tolist()
    for i, value in zip(waiting, stacked, strict=True):
        out[i] = value
    return out


def strict(value: Any) -> Any:
    """JSON has no nan and inf: they become the strings NaN, Infinity, -Infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value
