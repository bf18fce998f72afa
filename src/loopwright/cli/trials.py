"""The trials of ``train``: nothing of them is kept, they answer one question each."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loopwright as lw
from loopwright.cli.terminal import console
from loopwright.cli.training import fit_arguments, start_from
from loopwright.errors import LoopwrightError, UsageError

if TYPE_CHECKING:
    from loopwright.cli.train import Asked
    from loopwright.recipes.recipe import Job

DRY_STEPS = 2
OVERFIT_STEPS = 200
LEARNT = 0.2
"""Share of its first value to which the loss on one batch must fall."""


def dry_run(asked: Asked, job: Job) -> None:
    """Two steps through every phase: train, evaluate, checkpoint, report."""
    from rich.table import Table

    from loopwright.train.folder.reading import read_run

    start_from(job, asked.loop)
    arguments = fit_arguments(asked, job)
    for name in ("train_loader", "valid_loader", "test_loader"):
        if arguments[name] is not None:
            arguments[name] = _first(arguments[name])
    for name in ("steps", "minutes", "samples", "tokens"):
        arguments.pop(name, None)
    arguments |= {"epochs": 1, "log": [], "progress": False, "resume": "never", "checkpoint": None}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loopwright-") as place:
        folder = Path(place) / "run"
        run = lw.fit(out=folder, **arguments)
        record = read_run(folder)
        page = folder / "report.html"
        values = record.epochs[-1].values if record.epochs else {}
        table = Table.grid(padding=(0, 3))
        table.add_column(style="green")
        table.add_column(style="bold")
        table.add_column(style="dim")
        turns, samples = (int(record.totals.get(name, 0)) for name in ("turns", "samples"))
        table.add_row("✓", "train", f"{turns} steps, {samples} samples, on {run.device}")
        shown = [f"{name} {value:.4g}" for name, value in values.items() if "valid" in name]
        if shown:
            table.add_row("✓", "evaluate", ", ".join(shown))
        tested = [f"{k} {v:.4g}" for k, v in record.totals.items() if k.startswith("test_")]
        if tested:
            table.add_row("✓", "test", ", ".join(tested))
        size = sum(row.bytes for row in record.checkpoints[-1:])
        table.add_row("✓", "checkpoint", f"{size / 1e6:.1f} MB")
        table.add_row("✓", "report", f"{page.stat().st_size / 1e3:.0f} kB")
    if not asked.loop.quiet:
        out = console()
        out.print(table)
        seconds = time.monotonic() - began
        out.print(f"dry run: everything works ({seconds:.1f} s); nothing was kept")


def overfit_one_batch(asked: Asked, job: Job) -> None:
    """Train on the first batch alone; LoopwrightError when its loss does not fall."""
    start_from(job, asked.loop)
    (batch,) = _first(job.train_loader, 1)
    arguments = fit_arguments(asked, job)
    steps = asked.loop.steps or OVERFIT_STEPS
    losses: list[float] = []
    with lw.Run(None, **_of_run(arguments)) as run:
        for step in run.loop([batch] * steps, epochs=1):
            loss = _loss(job, run.model, step.batch)
            if step.index == 0 or step.ends_run:
                losses.append(loss.item())
            step.backward(loss)
            step.update()
    first, last = losses[0], losses[-1]
    told = f"from {first:.4g} to {last:.4g} in {steps} steps on one batch"
    if not last < LEARNT * first:
        raise LoopwrightError(
            f"the loss went {told}: the model does not learn it by heart",
            slug="does-not-overfit",
            hint="look at the learning rate, the loss, the labels, dropout; or give it more --steps",
        )
    print(f"the loss fell {told}: the model can learn")


def find_batch_size(asked: Asked, job: Job) -> None:
    """Try one whole step with ever larger batches, and say what the largest was.

    The batches are the first one's samples over and over; no more are tried than there are samples.
    """
    _one_model(job, "--find-batch-size")
    (batch,) = _first(job.train_loader, 1)
    keywords = _of_run(fit_arguments(asked, job)) | {"progress": False}
    limit = _samples(job.train_loader)
    seen = ""

    def step_with(size: int) -> None:
        nonlocal seen
        with lw.Run(None, **keywords) as run:
            seen = f"on {run.device} in {keywords['precision']}"
            for step in run.loop([_tiled(batch, size)], epochs=1):
                step.backward(_loss(job, run.model, step.batch))
                step.update()

    optimizer = (
        None if callable(job.optimizer) or isinstance(job.optimizer, dict) else job.optimizer
    )
    found = lw.find_batch_size(step_with, limit=limit, model=job.model, optimizer=optimizer)
    more = "; there are no more samples" if found == limit else ""
    print(f"the largest batch that fits {seen} has {found} samples{more}")
    if "batch_size" in asked.parameters:
        print(f"  --batch-size {found}  (leave some room: batches of unequal shape take more)")


def lr_range_test(asked: Asked, job: Job) -> None:
    """Train with a growing learning rate and draw the loss over it."""
    from loopwright.train.prepare import pick_device

    _one_model(job, "--lr-range-test")
    start_from(job, asked.loop)
    job.model.to(pick_device(asked.loop.device))
    optimizer = job.optimizer
    if not hasattr(optimizer, "param_groups"):
        optimizer = optimizer(job.model.parameters())

    def loss_of(model: Any, batch: Any) -> Any:
        return _loss(job, model, batch)

    found = lw.lr_range_test(
        job.model,
        optimizer,
        job.criterion or loss_of,
        job.train_loader,
        steps=asked.loop.steps or 100,
        compute_loss=loss_of,
    )
    print(found)
    if found.suggestion is not None and "lr" in asked.parameters:
        print(f"  --lr {found.suggestion:.2g}")


def _loss(job: Job, model: Any, batch: Any) -> Any:
    if job.compute_loss is not None:
        result = job.compute_loss(model, batch)
        return result[0] if isinstance(result, tuple) else result
    assert job.criterion is not None
    inputs, targets = batch
    return job.criterion(model(inputs), targets)


def _one_model(job: Job, flag: str) -> None:
    if isinstance(job.model, dict):
        raise UsageError(
            f"{flag} is for one model, and this recipe has several",
            slug="several-models",
            where="command line",
        )


def _samples(loader: Any) -> int:
    """How many samples there are to learn from, at most 65536; a stream has as many as one likes."""
    try:
        return max(1, min(65536, len(loader.dataset)))
    except (AttributeError, TypeError):
        return 65536


def _tiled(value: Any, size: int) -> Any:
    """The samples of a batch over and over until there are ``size``."""
    if isinstance(value, dict):
        return {name: _tiled(item, size) for name, item in value.items()}
    if hasattr(value, "index_select") and value.dim():
        import torch

        return value[torch.arange(size, device=value.device) % len(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_tiled(item, size) for item in value))
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return type(value)(value[index % len(value)] for index in range(size))
    if isinstance(value, list | tuple):
        return type(value)(_tiled(item, size) for item in value)
    return value


def _first(loader: Iterable[Any], count: int = DRY_STEPS) -> list[Any]:
    """The first batches as a list; the loader's workers are gone afterwards."""
    batches = list(itertools.islice(iter(loader() if callable(loader) else loader), count))
    if not batches:
        raise UsageError("the training data has no batch", slug="no-batch")
    return batches


def _of_run(arguments: dict[str, Any]) -> dict[str, Any]:
    """The keywords of ``Run`` among those of ``fit``, for a run that keeps nothing."""
    names = ("model", "optimizer", "scheduler", "precision", "clip", "compile", "device",
             "deterministic", "progress")  # fmt: skip
    return {name: arguments[name] for name in names}
