"""``train SOURCE``: a built-in recipe's name, a recipe's file, or a settings file that names one of these."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.cli.settings_file import SUFFIXES, Settings, read_settings
from loopwright.errors import UsageError

if TYPE_CHECKING:
    from loopwright.recipes.recipe import RecipeInfo


@dataclass(frozen=True, slots=True)
class Source:
    """A recipe, and the settings file that it came from if there was one."""

    info: RecipeInfo
    name: str
    file: Path | None
    settings: Settings | None = None


def find_source(word: str) -> Source:
    """The recipe that a word of the command line means; imports it, and torch with it.

    Raises:
        UsageError: nothing of that name; the nearest one is named.
    """
    path = Path(word).expanduser()
    if path.suffix.lower() in SUFFIXES:
        settings = read_settings(path)
        recipe = settings.recipe
        beside = path.parent / recipe
        if recipe.endswith(".py") and not Path(recipe).is_absolute():
            recipe = str(beside)
        info, file = _located(recipe, str(path))
        return Source(info, info.name, file, settings)
    if (path / "run.json").is_file():
        raise UsageError(
            f"{word} is a run folder, not a recipe",
            slug="unknown-recipe",
            where="command line",
            hint=f"loopwright report {word}, or repeat the command that made it to go on with it",
        )
    info, file = _located(word, "command line")
    return Source(info, info.name, file)


def _located(word: str, where: str) -> tuple[RecipeInfo, Path | None]:
    from loopwright.recipes import registry

    info = find_recipe(word, where)
    built_in = word.replace("_", "-") in registry.names()
    return info, None if built_in else Path(info.file).resolve()


def find_recipe(word: str, where: str) -> RecipeInfo:
    """A recipe by name or path, without leaving a ``__pycache__`` beside the user's file."""
    from loopwright.recipes import registry

    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return registry.find(word)
    except UsageError as error:
        error.where = error.where or where
        raise
    finally:
        sys.dont_write_bytecode = wrote
