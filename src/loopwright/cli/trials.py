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

    from loopwright.train.folder import read_run

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
        from loopwright.train import fit

        trial = fit._Trial(run, job.criterion, job.compute_loss, job.weight, (), None)
        for step in run.loop([batch], steps=steps):
            loss, _, _ = trial.loss(step.batch)
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
