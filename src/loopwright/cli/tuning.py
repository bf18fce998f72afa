"""``train --tune``: which settings make the steps of a recipe faster on this machine, by trying.

Each trial is a process of its own that trains for some seconds and keeps nothing. One setting after the
other is tried on top of the best so far; the plain one is run again at the end, and what lies within its
own difference (or 5 %) is noise and changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from loopwright.errors import LoopwrightError

if TYPE_CHECKING:
    from loopwright.cli.loop_settings import LoopSettings
    from loopwright.cli.train import Asked
    from loopwright.recipes.recipe import Job

SECONDS = 8.0
"""Of training in each trial, the start of Python and compiling not counted."""
LIMIT = 300.0
"""Seconds after which a trial is given up."""
CLEAR = 1.05
"""How many times faster a setting must be to be chosen."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Words of the command line to try, what they do to the numbers, and what they stand in the place of."""

    words: tuple[str, ...]
    numbers: str
    instead_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """What one process measured: seconds of a step, megabytes at the most, turns, what it noted."""

    seconds: float
    memory: float
    turns: int
    notes: tuple[str, ...]


def tune(asked: Asked, job: Job) -> None:
    """Try settings, show a table, and write those that were chosen to a settings file."""
    out = _out(asked)
    base = _words(asked)
    plain = _trial(base, out)
    rows = [("as it is", plain, "", True)]
    best, chosen, tried = plain, list[Setting](), {tuple(base)}
    for setting in candidates(asked, job):
        replaced = {setting.words[0], *setting.instead_of}
        others = [one for one in chosen if one.words[0] not in replaced]
        words = [*base, *(word for one in [*others, setting] for word in one.words)]
        if tuple(words) in tried:
            continue
        tried.add(tuple(words))
        try:
            trial = _trial(words, out)
        except LoopwrightError as error:
            out(f"{' '.join(setting.words)}: {error}")
            continue
        better = trial.seconds * CLEAR < best.seconds
        if better:
            best = trial
            chosen = [*others, setting]
        rows.append((" ".join(setting.words), trial, setting.numbers, better))
    again = _trial(base, out)
    noise = max(again.seconds / plain.seconds, plain.seconds / again.seconds)
    if plain.seconds / best.seconds < noise:
        chosen = []
    rows.append(("as it is, again", again, "", False))
    _show(asked, rows, plain, chosen, noise)


def candidates(asked: Asked, job: Job) -> Iterator[Setting]:
    """The settings that may help here and that the command line does not give."""
    import torch

    loop = asked.loop
    models = job.model.values() if isinstance(job.model, dict) else [job.model]
    if loop.threads is None:
        for count in thread_counts():
            if count != torch.get_num_threads():
                yield Setting(("--threads", str(count)), "other roundings")
    if not loop.channels_last and any(
        parameter.dim() == 4 for model in models for parameter in model.parameters()
    ):
        yield Setting(("--channels-last",), "other roundings")
    optimizers = job.optimizer.values() if isinstance(job.optimizer, dict) else [job.optimizer]
    if not loop.fused and all("fused" in getattr(one, "defaults", ()) for one in optimizers):
        yield Setting(("--fused",), "other roundings")
    if not loop.flush_denormal:
        yield Setting(("--flush-denormal",), "under 1e-38 zero")
    if loop.precision is None:
        yield Setting(("--precision", "bf16"), "bfloat16")
    if loop.capture is None and not isinstance(job.model, dict):
        yield Setting(("--capture", "exact"), "the same bits")
        # compiled, the update is fused with all else, where it is not torch's own kernel
        yield Setting(("--capture", "fast"), "other roundings", instead_of=("--fused",))
        if loop.precision is None:
            # Alone, bf16 may be lost by one slow kernel that a fast step computes in fp32.
            both = ("--precision", "bf16", "--capture", "fast")
            yield Setting(both, "bfloat16", instead_of=("--capture", "--fused"))


def thread_counts() -> list[int]:
    """1, 2, 4, … and the number of cores that this process may use."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power < cores]
    return [*powers, cores]


def _words(asked: Asked) -> list[str]:
    return [word for word in asked.words if word != "--tune"]


def _out(asked: Asked) -> Any:
    def tell(text: str) -> None:
        if not asked.loop.quiet:
            print(text, file=sys.stderr)

    return tell


def _trial(words: Sequence[str], tell: Any) -> Trial:
    """Train in a process of its own.

    Raises:
        LoopwrightError: it failed, with its last line.
    """
    code = "from loopwright.cli.tuning import serve; serve()"
    asked = json.dumps({"words": list(words), "seconds": SECONDS})
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=asked, env=_environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LoopwrightError(f"gave nothing in {LIMIT:.0f} s", slug="trial-failed") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
        last = (lines or ["it said nothing"])[-1]  # of a traceback; its hints are indented
        raise LoopwrightError(f"failed: {last}", slug="trial-failed")
    answer = json.loads(done.stdout.splitlines()[-1])
    answer["notes"] = tuple(answer["notes"])
    trial = Trial(**answer)
    tell(f"{trial.seconds * 1e3:8.3f} ms  {' '.join(words)}")
    return trial


def _environment() -> dict[str, str]:
    """The same Loopwright in the trial's process as in this one, wherever it was imported from."""
    place = str(Path(__file__).parents[2])
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([place, others] if others else [place])}


def serve() -> None:
    """The other side of a trial: read what to train from stdin, print what was measured."""
    request = json.loads(sys.stdin.read())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a recipe prints is no answer
    import loopwright as lw
    from loopwright.cli.train import understand
    from loopwright.cli.training import fit_arguments, prepare

    asked = understand(request["words"])
    assert asked is not None
    job = prepare(asked)
    arguments = fit_arguments(asked, job)
    for name in ("epochs", "steps", "samples", "tokens", "minutes"):
        arguments.pop(name, None)
    timer = Timer(request["seconds"])
    arguments |= {
        "steps": 10**9, "valid_loader": None, "test_loader": None, "checkpoint": None,
        "progress": False, "log": [], "keep_best": None, "patience": None, "finish": None,
        "resume": "never", "classes": None,
        "callbacks": [timer],
    }  # fmt: skip
    run = lw.fit(**arguments)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10)
    seconds, turns = timer.result()
    about = ("captured", "compiled", "in fp32")
    notes = [note for note in run.notes if any(word in note for word in about)]
    print(
        json.dumps({"seconds": seconds, "memory": memory, "turns": turns, "notes": notes}),
        file=answers,
        flush=True,
    )


class Timer:
    """A callback that takes the time of the turns and stops the run after some seconds.

    It looks where the run visits the host, at most twice a second: somebody who looks at each turn would keep
    a captured step from making several in one call. Of the time from one look to the next (of a turn
    that compiles, say) a second counts.
    """

    def __init__(self, seconds: float):
        self._left = seconds
        self._last: tuple[int, float] | None = None
        self._looks: list[float] = []  # seconds of a turn since the look before
        self._turns = 0

    def __call__(self, run: Any) -> None:
        """Register with ``run``."""
        run.on("log", self._look)

    def _look(self, event: Any) -> None:
        now = perf_counter()
        if self._last is not None and event.turn > self._last[0]:
            turn, then = self._last
            self._looks.append((now - then) / (event.turn - turn))
            self._turns += event.turn - turn
            self._left -= min(now - then, 1.0)
            if self._left <= 0 and len(self._looks) >= 4:
                event.run.stop("the trial is over")
        self._last = (event.turn, now)

    def result(self) -> tuple[float, int]:
        """Seconds of a turn in the later half, and the number of all.

        Raises:
            LoopwrightError: there was no turn between two looks.
        """
        if not self._looks:
            raise LoopwrightError("it made no two updates", slug="trial-failed")
        return median(self._looks[len(self._looks) // 2 :]), self._turns


def _show(asked: Asked, rows: list[Any], plain: Trial, chosen: list[Setting], noise: float) -> None:
    from rich.table import Table

    from loopwright.cli.terminal import console

    table = Table(box=None, padding=(0, 2))
    for name, side in (("", "left"), ("ms/step", "right"), ("times faster", "right"),
                       ("MB", "right"), ("numbers", "left")):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for name, trial, numbers, better in rows:
        table.add_row(
            f"{'✓' if better and numbers else ' '} {name}", f"{trial.seconds * 1e3:.3f}",
            f"{plain.seconds / trial.seconds:.2f}", f"{trial.memory:.0f}", numbers,
        )  # fmt: skip
    out = console()
    out.print(table)
    out.print(f"the plain one again differs by {100 * (noise - 1):.0f} %")
    for note in dict.fromkeys(note for _, trial, _, _ in rows for note in trial.notes):
        out.print(note)
    if not chosen:
        out.print("nothing is clearly faster than the settings as they are")
        return
    words = " ".join(word for one in chosen for word in one.words)
    path = write(asked, chosen)
    out.print(f"fastest: {words}\nwrote {path}: loopwright train {path}")


def write(asked: Asked, chosen: Sequence[Setting]) -> Path:
    """Write a settings file beside the caller: the recipe, its parameters, what was given and chosen."""
    name = asked.source.name
    path, number = Path(f"{name}-tuned.toml"), 1
    while path.exists():
        number += 1
        path = Path(f"{name}-tuned-{number}.toml")
    recipe = asked.source.file or name
    lines = [f"recipe = {json.dumps(str(recipe))}"]
    values = {**asked.parameters, "seed": asked.seed, **_given(asked.loop)}
    for key, value in values.items():
        if value is not None:
            lines.append(f"{key} = {_toml(value)}")
    words = [word for one in chosen for word in one.words]
    for flag, after in zip(words, [*words[1:], "--"], strict=True):
        if flag.startswith("--"):
            value = "true" if after.startswith("--") else after
            plain = value.isdigit() or value == "true"
            key = flag.removeprefix("--").replace("-", "_")
            lines.append(f"{key} = {value if plain else json.dumps(value)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _given(loop: LoopSettings) -> dict[str, Any]:
    """Return how long to train and how to compute, as far as the command line said so."""
    from loopwright.cli.loop_settings import LENGTH, NUMBERS

    return {
        one.name: value for one in dataclasses.fields(loop)
        if one.metadata["group"] in (LENGTH, NUMBERS)
        and (value := getattr(loop, one.name)) != one.default
    }  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value if isinstance(value, int | float | str) else str(value))
