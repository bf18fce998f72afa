"""The settings that the loop owns: the flags that every ``loopwright train`` has, whatever the recipe.

A recipe's own parameters (``--lr``, ``--batch-size``) are not here: see ``recipe_flags``.
"""

# ruff: noqa: RUF009  setting() is dataclasses.field() with the words of our flags

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from loopwright.cli.flags import Flag
from loopwright.cli.values import Range
from loopwright.errors import UsageError

LENGTH = "How long"
NUMBERS = "How it computes"
FOLDER = "Where it is kept"
WATCH = "What is shown"
RANKS = "Many processes"
TRY = "Trying it out"

COUNT = Range(least=1)
POSITIVE = Range(above=0)


def setting(
    default: Any, group: str, text: str, *, limits: Range | None = None, metavar: str | None = None
) -> Any:
    """One field of ``LoopSettings`` with what its flag needs."""
    about = {"group": group, "help": text, "limits": limits, "metavar": metavar}
    if isinstance(default, list):
        return dataclasses.field(default_factory=list, metadata=about)
    return dataclasses.field(default=default, metadata=about)


@dataclass(kw_only=True)
class LoopSettings:
    """What was asked of the loop. None: as the recipe says, or else as ``lw.fit`` does by itself."""

    epochs: int | None = setting(None, LENGTH, "Times through the training data.", limits=COUNT)
    steps: int | None = setting(None, LENGTH, "Batches to train on.", limits=COUNT)
    minutes: float | None = setting(None, LENGTH, "Minutes to train for.", limits=POSITIVE)
    samples: int | None = setting(None, LENGTH, "Samples to train on.", limits=COUNT)
    tokens: int | None = setting(None, LENGTH, "Tokens to train on.", limits=COUNT)
    patience: int | None = setting(
        None,
        LENGTH,
        "Stop when the value of --keep-best has not improved for this many epochs.",
        limits=COUNT,
    )

    precision: Literal["fp32", "bf16", "fp16"] | None = setting(
        None, NUMBERS, "Number format of the forward and backward pass."
    )
    accumulate: int | None = setting(
        None, NUMBERS, "Batches per update of the weights.", limits=COUNT
    )
    clip: str | None = setting(
        None,
        NUMBERS,
        "Limit of the gradients: their global norm (1.0), or each value (value:0.5).",
        metavar="NORM",
    )
    ema: float | None = setting(
        None,
        NUMBERS,
        "Keep an exponential moving average of the weights with this decay (0.999), and evaluate it.",
        limits=Range(above=0, below=1),
        metavar="DECAY",
    )
    nonfinite: Literal["stop", "skip", "rewind"] = setting(
        "stop",
        NUMBERS,
        "At a loss or gradient that is nan or inf: stop, skip the update, or go back to a checkpoint.",
    )
    capture: Literal["exact", "fast"] | None = setting(
        None,
        NUMBERS,
        "Record the whole training step and replay it without Python: exact gives the same numbers, "
        "fast compiles it where that pays and rounds otherwise.",
    )
    compile: bool = setting(False, NUMBERS, "Compile the model with torch.compile.")
    threads: int | None = setting(
        None,
        NUMBERS,
        "CPU threads of one operation; another number rounds otherwise.",
        limits=COUNT,
    )
    channels_last: bool = setting(
        False, NUMBERS, "Keep images with their channels last: faster convolutions."
    )
    fused: bool = setting(
        False, NUMBERS, "Update by torch's fused kernel (fused=True): faster, rounds otherwise."
    )
    flush_denormal: bool = setting(
        False,
        NUMBERS,
        "Take numbers under 1e-38 as zero: a CPU is slow at those that Adam keeps of rare gradients.",
    )
    device: str = setting("auto", NUMBERS, "cpu, cuda, cuda:1, mps; auto takes what there is.")
    deterministic: bool = setting(False, NUMBERS, "Use only operations with repeatable results.")

    out: Path | None = setting(
        None, FOLDER, "Run folder; without it runs/NAME/1, 2, …", metavar="FOLDER"
    )
    resume: Literal["auto", "never", "always"] = setting(
        "auto", FOLDER, "Go on with a run that is in the folder: auto if its settings are the same."
    )
    allow_change: list[str] = setting(
        [], FOLDER, "Resume although this setting differs (repeat it for several).", metavar="NAME"
    )
    init: Path | None = setting(
        None,
        FOLDER,
        "Start from these weights: a .safetensors file or a run folder.",
        metavar="WEIGHTS",
    )
    init_which: Literal["final", "best", "ema"] = setting(
        "final", FOLDER, "Which weights of a run folder --init takes."
    )
    checkpoint_every: str | None = setting(
        None,
        FOLDER,
        "Save the run's state every 500 (steps), 2epochs or 10min.",
        metavar="INTERVAL",
    )
    keep_best: str | None = setting(
        None,
        FOLDER,
        "Keep the best weights by this value: valid_accuracy:max, valid_loss:min.",
        metavar="VALUE",
    )

    log: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = setting(
        [],
        WATCH,
        "Also log to tensorboard, wandb, mlflow or trackio (repeat it for several).",
        metavar="TRACKER",
    )
    profile: str | None = setting(
        None,
        WATCH,
        "Trace steps with torch.profiler: 10:20 is the steps 10 to 19.",
        metavar="FROM:TO",
    )
    no_check: bool = setting(
        False, WATCH, "Do not check the first steps for silent mistakes (see loopwright rules)."
    )
    quiet: bool = setting(False, WATCH, "No progress bar and no lines, only errors.")
    open: bool = setting(False, WATCH, "Open the report in the browser at the end.")

    nproc: int | None = setting(
        None,
        RANKS,
        "Train in that many processes on this machine, as torchrun does; each takes a full batch.",
        limits=COUNT,
    )
    max_restarts: int = setting(
        0,
        RANKS,
        "Start all processes again so many times when one has failed; they go on from a checkpoint.",
        limits=Range(least=0),
    )

    dry_run: bool = setting(
        False, TRY, "Two steps through every phase; nothing is written outside a temporary folder."
    )
    overfit_one_batch: bool = setting(
        False, TRY, "Train on one batch alone: a model that can't learn it by heart has a mistake."
    )
    find_batch_size: bool = setting(
        False, TRY, "Find the largest batch size that fits into memory, by trying."
    )
    lr_range_test: bool = setting(
        False, TRY, "Raise the learning rate step by step and show where the loss falls fastest."
    )

    tune: bool = setting(
        False, TRY, "Try threads, formats and captures for a minute or two; write the fastest."
    )

    def __post_init__(self) -> None:
        tries = [name for name in TRIES if getattr(self, name)]
        if len(tries) > 1:
            raise _refused(" and ".join(map(flag_name, tries)) + " are both given", "keep one")
        if tries and (self.nproc or 1) > 1:
            raise _refused(
                f"{flag_name(tries[0])} and --nproc are both given", "try it in one process"
            )
        self.window()
        self.best()
        self.interval()
        self.limit()

    def length(self) -> dict[str, float]:
        """When the run ends, by what was given; the first that is reached ends it."""
        given = {name: getattr(self, name) for name in LENGTHS}
        return {name: value for name, value in given.items() if value is not None}

    def window(self) -> str | None:
        """``--profile 10:20``, checked: steps 10 to 19, counted from 0."""
        if self.profile is None:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", self.profile)
        if match is None or not int(match[1]) < int(match[2]):
            raise _refused(
                f"--profile takes two step numbers, not {self.profile!r}",
                "for example --profile 10:20 for the steps 10 to 19",
            )
        return self.profile

    def best(self) -> tuple[str, Literal["max", "min"]] | None:
        """``--keep-best valid_loss`` as ("valid_loss", "min"); a loss or error is best when small."""
        if self.keep_best is None:
            return None
        name, colon, mode = self.keep_best.partition(":")
        if not colon:
            small = ("loss", "error", "perplexity", "mae", "rmse", "mse")
            mode = "min" if name.lower().endswith(small) else "max"
        if not name or mode not in ("max", "min"):
            raise _refused(
                f"--keep-best takes the name of a value, not {self.keep_best!r}",
                "for example --keep-best valid_accuracy:max",
            )
        return name, "max" if mode == "max" else "min"

    def limit(self) -> float | str | None:
        """``--clip 1.0`` as 1.0; ``value:0.5`` and ``norm:1.0`` as they are."""
        if self.clip is None:
            return None
        match = re.fullmatch(r"(?:(value|norm):)?(.+)", self.clip)
        try:
            number = float(match[2]) if match else 0.0
        except ValueError:
            number = 0.0
        if match is None or not 0 < number < float("inf"):
            raise _refused(
                f"--clip takes a number above 0, not {self.clip!r}",
                "for example 1.0 for the global norm, value:0.5 for each value",
            )
        return self.clip if match[1] else number

    def interval(self) -> tuple[float, Literal["steps", "epochs", "minutes"]] | None:
        """``--checkpoint-every 10min`` as (10, "minutes"); a bare number counts steps."""
        if self.checkpoint_every is None:
            return None
        match = re.fullmatch(r"([\d.]+)\s*([a-z]*)", self.checkpoint_every.strip().lower())
        try:
            number = float(match[1]) if match else 0.0
        except ValueError:
            number = 0.0
        unit = match[2] if match else ""
        for name in ("steps", "epochs", "minutes"):
            if not number > 0 or (name != "minutes" and number != int(number)):
                continue
            if unit in {name, name[:-1], *(("",) if name == "steps" else ())} or (
                name == "minutes" and unit in ("min", "mins")
            ):
                return number, name  # type: ignore[return-value]
        raise _refused(
            f"--checkpoint-every takes an interval, not {self.checkpoint_every!r}",
            "for example 500, 2epochs or 10min",
        )


LENGTHS = ("epochs", "steps", "minutes", "samples", "tokens")
TRIES = ("dry_run", "overfit_one_batch", "find_batch_size", "lr_range_test", "tune")


def loop_flags() -> list[Flag]:
    """A flag for each of ``LoopSettings``, in their order."""
    hints = get_type_hints(LoopSettings)
    return [
        Flag(
            name=field.name,
            annotation=hints[field.name],
            default=[] if field.default is dataclasses.MISSING else field.default,
            **field.metadata,
        )
        for field in dataclasses.fields(LoopSettings)
    ]


def flag_name(name: str) -> str:
    """``checkpoint_every`` as ``--checkpoint-every``."""
    return "--" + name.replace("_", "-")


def _refused(what: str, hint: str) -> UsageError:
    return UsageError(what, slug="bad-setting", where="command line", hint=hint)
