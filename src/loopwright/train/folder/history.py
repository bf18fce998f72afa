"""What a run measured: losses per turn, values per epoch; on disk as JSON lines, in memory bounded.

Losses on an accelerator wait there as 0-d tensors and come to the host together, at most twice a
second (``flush``), so that recording never waits for the device.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from loopwright.checkpoint import disk, posix
from loopwright.errors import DiskError
from loopwright.events import EpochRow, Series

POINTS = 4096
"""Points of a curve that are kept in memory; beyond, neighbours are merged into their mean."""

SELDOM = 0.5
"""Seconds between two writes to the file where nothing asks for one."""

LONGEST = 64 << 20
"""Characters of a line that are read; ours hold what half a second brings, at most some 100 KB."""


class History:
    """The curves and rows of a run.

    Attributes:
        series: curve name -> ``Series`` of at most ``POINTS`` points.
        epochs: one row an epoch.
        waiting: loss, weight, learning rate and norm of each turn since ``flush``.
        unreadable: which lines of the file could not be read, in words; what a crash cut off is not
            among them.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.series: dict[str, Series] = {}
        self.epochs: list[EpochRow] = []
        self._stride: dict[str, int] = {}
        self._bucket: dict[str, list[float]] = {}
        self._first = 1
        self._loop = "0"
        self.waiting: list[tuple[Any, float | Tensor, float, Any]] = []
        self.grad_norm: float | None = None  # of the last update
        self._last = 0  # the latest turn of any record
        self._writing = threading.Lock()
        self._lines: list[bytes] = []
        self._good: int | None = None  # bytes of the file that are known to be whole lines
        self._mended = False
        self._put_down = -SELDOM
        self._named = False  # the file's name is known to be on the disk
        self.unreadable = ""

    # -- turns -------------------------------------------------------------------------------

    def turn(
        self, turn: int, loss: Any, weight: float | Tensor, lr: float, norm: float | Tensor | None
    ) -> None:
        """Note one turn (1-based); ``loss`` is a float, a 0-d tensor, or None for a skipped batch."""
        if not self.waiting:
            self._first = turn
        self.waiting.append((loss, weight, lr, norm))

    def turns(
        self, first: int, losses: list[float], weight: float, lrs: list[float], norms: list[float]
    ) -> None:
        """Note several turns at once, all of one weight; ``first`` is 1-based."""
        if not self.waiting:
            self._first = first
        self.waiting += zip(losses, repeat(weight), lrs, norms)

    def flush(self, loop: str, seconds: float) -> tuple[list[float], list[float]]:
        """Bring what waits to the host, and to ``put_down``; returns the losses and their weights."""
        if not self.waiting:
            return [], []
        columns: list[list[Any]] = [to_host(list(one)) for one in zip(*self.waiting, strict=True)]
        losses, weights, lrs, norms = columns
        first, self.waiting = self._first, []
        self.grad_norm = next((x for x in reversed(norms) if x is not None), self.grad_norm)
        self.write(
            {
                "kind": "steps", "loop": loop, "first": first, "loss": losses,
                "lr": lrs, "grad_norm": norms, "seconds": round(seconds, 6),
            }
        )  # fmt: skip
        turns = range(first, first + len(losses))
        self._points("loss", *_known(turns, losses))
        self._points("lr", turns, lrs)
        self._points("grad_norm", *_known(turns, norms))
        if None in losses:  # of batches that were skipped
            weights = [w for w, loss in zip(weights, losses, strict=True) if loss is not None]
            losses = [loss for loss in losses if loss is not None]
        return losses, [weight or 0.0 for weight in weights]

    def log(self, turn: int, epoch: int, values: dict[str, float]) -> None:
        """Note named values at a turn; ``put_down`` writes them."""
        self.write({"kind": "log", "turn": turn, "epoch": epoch, "values": values})
        for name, value in values.items():
            self._point(name, turn, value)

    def epoch(self, row: EpochRow) -> None:
        """Note an epoch's row; ``put_down`` writes it."""
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
            self.resumed(turn)
            self.write({"kind": "resumed", "turn": turn})
            self.put_down()

    def resumed(self, turn: int) -> None:
        """Forget the records of later turns."""
        self.epochs = [row for row in self.epochs if row.turn <= turn]
        for series in self.series.values():
            keep = sum(1 for x in series.x if x <= turn)
            del series.x[keep:], series.y[keep:]
        self._bucket.clear()
        self._last = min(self._last, turn)

    # -- memory and file ---------------------------------------------------------------------

    def _points(self, name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        """Add points in order; 57 of them, an epoch of the digits, in 10 µs instead of 60."""
        series = self.series.get(name)
        if series is None or not xs or len(series.x) + len(xs) > POINTS:
            for x, y in zip(xs, ys, strict=True):
                self._point(name, x, y)
            return
        self._last = max(self._last, xs[-1])
        stride, begun = self._stride[name], self._bucket.get(name, [])
        if stride > 1:
            ys = (*begun, *ys)
            whole = len(ys) // stride * stride
            self._bucket[name] = list(ys[whole:])
            xs = xs[stride - 1 - len(begun) :: stride]
            ys = [sum(ys[i : i + stride]) / stride for i in range(0, whole, stride)]
        series.x += xs
        series.y += ys

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
        """Make a record a line for the file, if there is one."""
        if self.path is not None:
            line = _line(record).encode() + b"\n"
            with self._writing:
                self._lines.append(line)

    def put_down(self, *, seldom: bool = False) -> None:
        """Append the lines that wait to the file; those of a write that fails go on waiting.

        Args:
            seldom: not if that was done in the last half second: opening a file takes 40 to 130 µs, and
                an epoch may last 10 ms. A checkpoint's lines are on the disk before it is.

        A run that ends by that failure saves its last boundary, if the disk takes it after all: what was
        measured before belongs to it.
        """
        if seldom and perf_counter() - self._put_down < SELDOM:
            return
        self._put_down = perf_counter()
        with self._writing:  # a checkpoint's background write does it too
            if self.path is None or not self._lines:
                return
            try:
                with open(self.path, "a+b", opener=_no_link) as file:
                    # Where a write has failed, how much of it is there is not known.
                    if self._good is not None:
                        file.truncate(self._good)
                    if not self._mended:  # a line that a crash cut off must not swallow this one
                        self._mended = True
                        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                            file.write(b"\n")
                    self._good = file.seek(0, os.SEEK_END)
                    file.write(b"".join(self._lines))
            except OSError as error:
                raise DiskError(
                    f"cannot write {self.path}: {error.strerror or error}", slug="cannot-write"
                ) from error
            self._lines, self._good = [], None

    def sync(self) -> None:
        """Wait until all lines, and the file's name, are on the disk."""
        self.put_down()
        if self.path is None or not self.path.exists():
            return
        with disk.failures("write the history", self.path):
            fd = posix.open_regular(self.path)
            try:
                disk.sync(fd)
            finally:
                os.close(fd)
            if not self._named:
                disk.sync_folder(self.path.parent)
                self._named = True

    def shown(self, title: str) -> str:
        """Return the curves for a notebook, below a title."""
        from loopwright.report.svg import notebook

        return notebook(title, self.series, self.epochs)

    def _repr_html_(self) -> str:
        return self.shown("")


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | posix.NO_FOLLOW, 0o666)


def read(path: Path) -> History:
    """Return the history that stands in a ``metrics.jsonl``; lines that a crash cut off are passed over."""
    history = History()
    bad = []
    try:
        for number, record in enumerate(records(path), 1):
            if record is None or not _replay(history, record):
                bad.append(number)
    except FileNotFoundError:
        return history
    except OSError as error:
        reason = "it is not a file" if error.errno == errno.ELOOP else str(error.strerror).lower()
        history.unreadable = f"it could not be read ({reason})"
    if bad:
        lines = f"line {bad[0]}" if len(bad) == 1 else f"{len(bad)} lines, the first is {bad[0]},"
        history.unreadable = f"{lines} could not be read and is left out"
    return history


def records(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the object of each line; {} for one that a crash cut off, None for one that is not ours.

    Raises:
        OSError: there is no such file, or it is a link, a pipe or a folder.
    """
    with os.fdopen(posix.open_regular(path), encoding="utf-8", errors="replace") as file:
        while line := file.readline(LONGEST):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                yield {} if _cut_off(line, error) else None
            except RecursionError:
                yield None
            else:
                yield record if isinstance(record, dict) and record else None


def _cut_off(line: str, error: json.JSONDecodeError) -> bool:
    """Whether a line ends in the middle of what was meant to be JSON, rather than being something else."""
    rest = line.rstrip("\n\0")[error.pos :]
    begun = line.startswith('{"')
    return begun and (error.msg.startswith("Unterminated") or len(rest) < len("-Infinity"))


def understood(record: dict[str, Any]) -> bool:
    """Return whether a record is one of ours, with all that belongs to it."""
    return _replay(History(), record)


def _replay(history: History, record: dict[str, Any]) -> bool:
    """Enter a record; False when it is not one of ours, which then changes nothing."""
    try:
        enter = _entry(history, record)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False
    enter()
    return True


def _entry(history: History, record: dict[str, Any]) -> Callable[[], None]:
    if not record:
        return lambda: None
    kind = record["kind"]
    points: list[tuple[str, int, float]] = []
    if kind == "steps":
        rows = zip(record["loss"], record["lr"], record["grad_norm"], strict=True)
        for turn, row in enumerate(rows, int(record["first"])):
            for name, value in zip(("loss", "lr", "grad_norm"), row, strict=True):
                if value is not None:
                    points.append((name, turn, float(value)))
    elif kind == "log":
        points = [(k, int(record["turn"]), float(v)) for k, v in record["values"].items()]
    elif kind == "epoch":
        values = {name: float(value) for name, value in record["values"].items()}
        row = EpochRow(int(record["epoch"]), int(record["turn"]), float(record["seconds"]),
                       values, str(record["loop"]))  # fmt: skip
        return lambda: history.epochs.append(row)
    elif kind == "resumed":
        turn = int(record["turn"])
        return lambda: history.resumed(turn)
    else:
        raise ValueError(kind)

    def enter() -> None:
        for point in points:
            history._point(*point)

    return enter


def _known(turns: Sequence[int], values: list[Any]) -> tuple[Sequence[int], list[float]]:
    """Return turns and their values without those that have none."""
    if None not in values:
        return turns, values
    both = [(turn, value) for turn, value in zip(turns, values, strict=True) if value is not None]
    return [turn for turn, _ in both], [value for _, value in both]


def to_host(values: list[Any]) -> list[float | None]:
    """Return floats for a list of floats, Nones and 0-d tensors, with one copy per device."""
    waiting = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    if not waiting:
        return values
    out = list(values)
    first = values[waiting[0]]
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    parts = [values[i].detach() for i in waiting]
    if any(part.dtype != first.dtype or part.ndim for part in parts):
        parts = [part.reshape(()).to(wide) for part in parts]
    for i, value in zip(waiting, torch.stack(parts).to(wide).tolist(), strict=True):
        out[i] = value
    return out


def _line(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record, allow_nan=False)
    except (
        ValueError
    ):  # a number that JSON has no word for; looking at each of them costs 80 µs an epoch
        return json.dumps(strict(record), allow_nan=False)


def strict(value: Any) -> Any:
    """JSON has no nan and inf: they become the strings NaN, Infinity, -Infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value
