"""``loopwright predict RUN DATA``: answers for new data."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cyclopts import Parameter

from loopwright.errors import DataError, UsageError

if TYPE_CHECKING:
    from loopwright.cli.rebuild import Rebuilt

Row = dict[str, Any]


def predict(
    run: Path,
    data: str,
    /,
    *,
    to: Path | None = None,
    which: Literal["best", "final", "ema"] | None = None,
    device: str = "auto",
    batch_size: Annotated[int, Parameter(negative=())] = 256,
) -> None:
    """Answer for new data with a run's weights.

    Args:
        run: A run folder that a recipe made.
        data: What the recipe reads: a file, a folder, an image, or one line of text.
        to: Write the answers to this CSV file instead of printing them.
        which: Which weights; by default the best ones where the run kept them, else the final ones.
        device: cpu, cuda, cuda:1, mps; auto takes what there is.
        batch_size: Inputs that go through the model at once.
    """
    if batch_size < 1:
        raise UsageError(
            f"--batch-size must be at least 1, not {batch_size}",
            slug="bad-flag",
            where="command line",
        )
    if to is not None and not to.parent.is_dir():
        raise UsageError(
            f"there is no folder {to.parent}", slug="no-such-file", where="command line"
        )
    from loopwright.cli.rebuild import rebuild

    rebuilt = rebuild(run, which)
    if rebuilt.job.read is None:
        raise UsageError(
            f"recipe {rebuilt.name} does not say how to read new data",
            slug="cannot-predict",
            where=str(run),
            hint="give its Job read= (and answer=); loopwright new FILE.py shows how",
        )
    rows = answers(rebuilt, data, device, batch_size)
    if to is not None:
        print(f"wrote {write_csv(to, rows)} answers to {to}")
        return
    first, second = next(rows, None), next(rows, None)
    if first is None:
        raise DataError("there is nothing to answer", slug="no-data", where=data)
    if second is None:
        _print_one(first)
    else:
        _write(sys.stdout, (row for some in ([first, second], rows) for row in some))


def answers(rebuilt: Rebuilt, data: str, device: str, batch_size: int) -> Iterator[Row]:
    """Yield the answer for each input that the recipe reads from ``data``, with its id first."""
    import torch

    from loopwright.train.prepare import pick_device

    assert rebuilt.job.read is not None
    job, place = rebuilt.job, pick_device(device)
    model = job.model.to(place).eval()
    for names, inputs in _batches(rebuilt.job.read(data), batch_size):
        with torch.no_grad():
            outputs = model(_moved(inputs, place))
        for index, name in enumerate(names):
            row = _row(outputs, index)
            yield {"id": name, **(job.answer(row) if job.answer else _columns(row))}


def _batches(items: Iterable[tuple[str, Any]], size: int) -> Iterator[tuple[list[str], Any]]:
    """Group inputs of one shape, at most ``size`` of them."""
    from torch.utils.data import default_collate

    names: list[str] = []
    inputs: list[Any] = []
    for name, one in items:
        if inputs and (len(inputs) == size or _shape(one) != _shape(inputs[0])):
            yield names, default_collate(inputs)
            names, inputs = [], []
        names.append(name)
        inputs.append(one)
    if inputs:
        yield names, default_collate(inputs)


def _shape(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value]
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    return getattr(value, "shape", None)


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    return value.to(device) if hasattr(value, "to") else value


def _row(outputs: Any, index: int) -> Any:
    if isinstance(outputs, list | tuple):
        return type(outputs)(_row(item, index) for item in outputs)
    if isinstance(outputs, dict):
        return {name: _row(item, index) for name, item in outputs.items()}
    return outputs[index].cpu()


def _columns(row: Any) -> Row:
    """What a recipe without ``answer`` answers: the numbers."""
    numbers = row.reshape(-1).tolist()
    if len(numbers) == 1:
        return {"output": numbers[0]}
    return {f"output_{number}": value for number, value in enumerate(numbers)}


def write_csv(path: Path, rows: Iterable[Row]) -> int:
    """Write rows so that ``path`` is the old file or the whole new one; returns their number."""
    from loopwright.cli.output import whole

    with whole(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        return _write(file, rows)


def _write(file: TextIO, rows: Iterable[Row]) -> int:
    writer: csv.DictWriter[str] | None = None
    count = 0
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
        writer.writerow(row)
        count += 1
    if count == 0:
        raise DataError("there is nothing to answer", slug="no-data")
    return count


def _print_one(row: Row) -> None:
    from rich.table import Table

    from loopwright.cli.terminal import console

    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column(style="bold")
    for name, value in row.items():
        if name != "id":
            blank = isinstance(value, str) and not value.strip()  # the next character may be one
            table.add_row(name, repr(value) if blank else str(value))
    console().print(table)
