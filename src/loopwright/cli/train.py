"""``loopwright train SOURCE [flags]``: the flags are the recipe's own parameters and the loop's settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.cli.flags import command_of, parse
from loopwright.cli.loop_settings import LoopSettings, loop_flags
from loopwright.cli.recipe_flags import SEED, all_flags
from loopwright.cli.source import Source, find_source
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = """Train a recipe: a built-in one, a Python file, or a settings file.

NAME     {names}
FILE.py  has one function marked @lw.recipe ("loopwright new FILE.py" writes one to start from)
FILE.toml or FILE.yaml names a recipe and sets its parameters and the loop's

Each recipe has flags of its own: "loopwright train NAME --help" shows them with those below.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A training command, understood."""

    source: Source
    parameters: dict[str, Any]
    seed: int
    loop: LoopSettings
    words: tuple[str, ...]


def train(*words: str) -> int:
    """Train a recipe: a built-in one, a Python file, or a settings file."""
    asked = understand(words)
    if asked is None:
        return 0
    if asked.loop.nproc is not None and asked.loop.nproc > 1:
        from loopwright.parallel.launch import is_launched, launch

        if not is_launched():
            return launch(
                "loopwright", ["train", *words],
                processes=asked.loop.nproc, restarts=asked.loop.max_restarts,
            )  # fmt: skip
    from loopwright.cli.training import carry_out

    return carry_out(asked)


def understand(words: Sequence[str]) -> Asked | None:
    """What a command line asks for; None when it asked for help, which is then printed."""
    place = _source_at(words)
    if place is None:
        if {"--help", "-h"} & set(words):
            _general_help()
            return None
        raise UsageError(
            "what shall be trained?",
            slug="no-recipe",
            where="command line",
            hint="loopwright train digits; loopwright recipes lists what there is",
        )
    source = find_source(words[place])
    rest = [*words[:place], *words[place + 1 :]]
    settings = source.settings
    about = (source.info.function.__doc__ or "").strip().partition("\n\n")[0]
    app = command_of(
        all_flags(source.info),
        name=f"loopwright train {words[place]}",
        usage=f"Usage: loopwright train {words[place]} [FLAGS]",
        about=about,
    )
    given = parse(
        app,
        rest,
        file=settings.values if settings else None,
        file_name=str(settings.path) if settings else "",
        hint=f"loopwright train {words[place]} --help lists the flags",
    )
    if given is None:
        return None
    loop = {
        field.name: given.pop(field.name) for field in fields(LoopSettings) if field.name in given
    }
    own = {parameter.name for parameter in source.info.parameters}
    seed = None if "seed" in own else given.pop("seed", SEED.default)
    # Absolute paths: evaluate and predict may be called from another folder.
    parameters: dict[str, Any] = {
        name: value.resolve() if isinstance(value, Path) else value
        for name, value in source.info.complete(given).items()
    }
    return Asked(
        source, parameters, parameters.get("seed", seed), LoopSettings(**loop), tuple(words)
    )


def _source_at(words: Sequence[str]) -> int | None:
    """Index of the first word that is neither a flag nor a loop flag's value."""
    takes_value = {
        "--" + flag.name.replace("_", "-") for flag in loop_flags() if flag.annotation is not bool
    } | {"--seed"}
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word in takes_value:
            skip = True
        elif not word.startswith("-"):
            return index
    return None


def _general_help() -> None:
    from loopwright.recipes.registry import names

    app = command_of(
        [*loop_flags(), SEED],
        name="loopwright train",
        usage="Usage: loopwright train NAME|FILE.py|FILE.toml [FLAGS]",
        about=ABOUT.format(names=", ".join(names())),
    )
    parse(app, ["--help"])
