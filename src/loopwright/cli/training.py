"""What happens once a training command is understood: seed, recipe, weights to start from, ``lw.fit``."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loopwright as lw
from loopwright.cli.failures import locate
from loopwright.cli.first_steps import FirstSteps
from loopwright.cli.loop_settings import LENGTHS, TRIES, LoopSettings
from loopwright.errors import LoopwrightWarning, UsageError
from loopwright.train.callsite import place_of

if TYPE_CHECKING:
    from loopwright.cli.train import Asked
    from loopwright.recipes.recipe import Job

RUNS = Path("runs")


def carry_out(asked: Asked) -> int:
    """Train, or one of the trials; returns the exit code."""
    with FirstSteps(asked) as first:
        job = prepare(asked)
        try:
            for name in TRIES:
                if getattr(asked.loop, name):
                    _try(name)(asked, job)
                    return 0
            return train_job(asked, job, first)
        except Exception as error:
            locate(error, place_of_recipe(asked))
            raise


def prepare(asked: Asked) -> Job:
    """Seed, and let the recipe make its parts, with the threads and the layout that were asked for."""
    import torch

    if asked.loop.threads is not None:
        torch.set_num_threads(asked.loop.threads)
    if asked.loop.flush_denormal:
        _flush_denormal()
    lw.seed(asked.seed)
    job = asked.source.info.build(asked.parameters)
    if asked.loop.channels_last:
        for model in job.model.values() if isinstance(job.model, dict) else [job.model]:
            model.to(memory_format=torch.channels_last)
    if asked.loop.fused:
        _fuse(job)
    return job


def _flush_denormal() -> None:
    """Before anything is computed: threads take the switch from the one that begins them."""
    from loopwright import denormals

    if not denormals.flush():
        warnings.warn(
            "--flush-denormal has no effect on some threads: this processor has no such switch, or "
            "torch had begun its threads before  [denormals-not-flushed]",
            LoopwrightWarning,
            stacklevel=2,
        )


def _fuse(job: Job) -> None:
    """Let the job's optimizers update by torch's fused kernel."""
    from loopwright.train.update.fused import fuse

    def fused(made: Any) -> Any:
        if isinstance(made, dict):
            return {name: fused(one) for name, one in made.items()}
        if not hasattr(made, "param_groups"):  # what makes one of parameters
            return lambda parameters: fused(made(parameters))
        fuse(made)
        return made

    job.optimizer = fused(job.optimizer)


def place_of_recipe(asked: Asked) -> str:
    """Return ``mine.py:12``, where the recipe is written; of a built-in one, its name."""
    source = asked.source
    if source.file is None:
        return f"recipe {source.name}"
    return place_of(source.info.function) or source.info.where


def _try(name: str) -> Any:
    from loopwright.cli import trials, tuning

    return getattr(tuning if name == "tune" else trials, name)


def train_job(asked: Asked, job: Job, first: FirstSteps) -> int:
    """Train what a recipe has made; returns the exit code."""
    from loopwright.train.folder.reading import choose
    from loopwright.train.parts import parts_of_a_run

    start_from(job, asked.loop)
    arguments = fit_arguments(asked, job)
    recipe, settings = arguments["recipe"], arguments["settings"]
    folder = asked.loop.out or Path(
        parts_of_a_run("ddp").first_does(
            lambda: str(choose(RUNS, asked.source.name, recipe, settings, asked.loop.resume))
        )
    )
    turns = turns_of_ended(folder)
    begun: list[Any] = []

    def begin(run: Any) -> None:
        begun.append(run)
        run.summarised = True

    arguments["callbacks"] = [begin, first, *arguments["callbacks"]]
    try:
        run = lw.fit(out=folder, **arguments)
    except (KeyboardInterrupt, SystemExit) as error:
        if begun:
            error.add_note("the same command again goes on where it stopped")
        raise
    if run.rank == 0:
        conclude(folder, asked.loop, already=turns is not None and run.totals.get("turns") == turns)
    return 0


def turns_of_ended(folder: Path) -> float | None:
    """Return the turns of a run that has ended, with all that comes after the last; None of another."""
    from loopwright.events import RunRecord
    from loopwright.train.folder.reading import take

    record = RunRecord(name="")
    take(record, folder, "outcome.json")
    return record.totals.get("turns") if record.concluded else None


def start_from(job: Job, loop: LoopSettings) -> None:
    """Load what fits of ``--init`` and show what does not; an error when nothing does."""
    if loop.init is None:
        return
    if isinstance(job.model, dict):
        raise UsageError(
            "--init starts one model, and this recipe has several",
            slug="several-models",
            where="command line",
            hint="call lw.load_weights in the recipe",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lw.LoopwrightWarning)  # its table is printed in any case
        loaded = lw.load_weights(loop.init, job.model, which=loop.init_which, strict=False)
    if not loop.quiet or not loaded.complete:
        print(f"{loop.init}: {loaded}", file=sys.stderr)


def fit_arguments(asked: Asked, job: Job) -> dict[str, Any]:
    """The keywords of ``lw.fit`` (without ``out``): the job's fields, and what the command line says."""
    loop = asked.loop
    arguments: dict[str, Any] = {
        field.name: getattr(job, field.name)
        for field in dataclasses.fields(job)
        if field.name not in ("read", "answer", "example", *LENGTHS)
    }
    arguments |= loop.length() or _length_of(job)
    for name in ("precision", "accumulate", "ema", "patience"):
        if getattr(loop, name) is not None:
            arguments[name] = getattr(loop, name)
    if loop.clip is not None:
        arguments["clip"] = loop.limit()
    if loop.best() is not None:
        arguments["keep_best"] = loop.best()
    for name in (
        "compile",
        "device",
        "deterministic",
        "resume",
        "allow_change",
        "log",
        "nonfinite",
        "capture",
    ):
        arguments[name] = getattr(loop, name)
    callbacks = list(job.callbacks)
    if (window := loop.window()) is not None:
        callbacks.append(lw.profile(window))
    arguments["callbacks"] = callbacks
    arguments["checkpoint"] = _policy(loop)
    arguments["progress"] = not loop.quiet
    arguments["name"] = asked.source.name
    arguments["recipe"] = recipe_record(asked)
    arguments["settings"] = _settings(asked, arguments)
    return arguments


def _settings(asked: Asked, arguments: dict[str, Any]) -> dict[str, Any]:
    """What makes this the same run as another one, beside the recipe; the length may differ."""
    settings = {"seed": asked.seed}
    for name in (*LENGTHS, "precision", "accumulate", "clip", "compile", "deterministic",
                 "ema", "patience", "keep_best"):  # fmt: skip
        value = arguments.get(name)
        if isinstance(value, int | float | str | tuple):
            settings[name] = _plain(value)
    if asked.loop.fused:
        settings["fused"] = True
    if asked.loop.init is not None:
        settings |= {"init": str(asked.loop.init.resolve()), "init_which": asked.loop.init_which}
    return settings


def recipe_record(asked: Asked) -> dict[str, Any]:
    """What ``run.json`` says of the recipe: enough to call it again."""
    source = asked.source
    return {
        "name": source.name,
        "file": None if source.file is None else str(source.file),
        "parameters": {name: _plain(value) for name, value in asked.parameters.items()},
        "seed": asked.seed,
    }


def conclude(folder: Path, loop: LoopSettings, *, already: bool) -> None:
    """Show what the run came to, and its report; that it had ended ``already`` is the first line."""
    from loopwright.cli.terminal import console, show_page
    from loopwright.report.terminal import summary
    from loopwright.train.folder.reading import read_run

    page = folder / "report.html"
    if not loop.quiet:
        out = console()
        record = read_run(folder)
        if already:
            out.print(
                f"{folder} had {record.outcome.kind} before ({record.outcome.reason}): nothing was "
                "trained or changed; more --epochs go on from its end"
            )
        out.print()
        out.print(summary(record, report=str(page)))
    if loop.open:
        show_page(page)


def _length_of(job: Job) -> dict[str, float]:
    given = {name: getattr(job, name, None) for name in LENGTHS}
    length = {name: value for name, value in given.items() if value is not None}
    if not length:
        raise UsageError(
            "how long shall it train? The recipe does not say",
            slug="no-length",
            where="command line",
            hint="--epochs 10, or Job(epochs=10) in the recipe",
        )
    return length


def _policy(loop: LoopSettings) -> lw.Checkpoint | None:
    interval = loop.interval()
    if interval is None:
        return None
    number, unit = interval
    if unit == "minutes":
        return lw.Checkpoint(every_epochs=None, every_minutes=number)
    if unit == "steps":
        return lw.Checkpoint(every_epochs=None, every_steps=int(number))
    return lw.Checkpoint(every_epochs=int(number))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
