"""``loopwright evaluate RUN``: loss and metrics of a run's weights."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.recipes.recipe import Job


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["valid", "test"] = "valid",
    which: Literal["best", "final", "ema"] | None = None,
    device: str = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Evaluate a run's weights on its validation or test data.

    Args:
        run: A run folder that a recipe made.
        split: Which data; the test data is for the very end.
        which: Which weights; by default the best ones where the run kept them, else the final ones.
        device: cpu, cuda, cuda:1, mps; auto takes what there is.
        json: Print one JSON object instead of a table.
    """
    from loopwright.cli.rebuild import rebuild

    rebuilt = rebuild(run, which)
    loader = getattr(rebuilt.job, f"{split}_loader")
    if loader is None:
        raise UsageError(
            f"recipe {rebuilt.name} has no {split} data",
            slug="no-such-split",
            where=str(run),
            hint=None if split == "valid" else "--split valid",
        )
    values = measure(rebuilt.job, loader, split, device=device, precision=rebuilt.precision)
    if json:
        answer = {"run": str(run), "split": split, "weights": rebuilt.weights, "values": values}
        print(json_format.dumps(answer))
        return
    from rich.table import Table

    from loopwright.cli.terminal import console
    from loopwright.report import formats

    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    table.add_column(f"{rebuilt.weights} weights on {split} data")
    table.add_column("", justify="right", style="bold")
    for name, value in values.items():
        table.add_row(name, formats.metric(name, value))
    console().print(table)


def measure(job: Job, loader: Any, split: str, *, device: str, precision: str) -> dict[str, float]:
    """Loss and metrics of a job's model over ``loader``, by name; nothing is written."""
    import loopwright as lw
    from loopwright.train import fit

    with lw.Run(
        None,
        model=job.model,
        optimizer=job.optimizer,
        device=device,
        precision=precision,
        progress=False,
    ) as run:
        trial = fit._Trial(
            run, job.criterion, job.compute_loss, job.weight, job.metrics, job.classes
        )
        values = trial.evaluate(loader, split)
    return {name: float(value) for name, value in values.items()}
