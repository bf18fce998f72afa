"""Recipes by name and by file. Importing this module imports no torch; ``get`` does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from loopwright.errors import UsageError
from loopwright.recipes.nearest import did_you_mean
from loopwright.recipes.recipe import MARK, RecipeInfo, info_of
from loopwright.recipes.source import find_recipe, import_file

BUILT_IN = {
    # name: (module, summary); the summaries repeat the docstrings: listing them costs no torch
    "digits": (
        "digits",
        "Classify 8x8 handwritten digits with a small MLP; data included.",
    ),
    "fashion-mnist": ("fashion_mnist", "Classify 28x28 pictures of clothing with a small CNN."),
    "char-lm": ("char_lm", "Learn to write like a text file, one character after the other."),
    "images": ("images", "Classify images that lie in one folder per class."),
    "table": ("table", "Predict one column of a CSV or Parquet file from the others."),
}


def names() -> list[str]:
    """Return the names of the built-in recipes."""
    return list(BUILT_IN)


def summaries() -> dict[str, str]:
    """Return the name of each built-in recipe and one line about it."""
    return {name: summary for name, (_, summary) in BUILT_IN.items()}


def source_path(name: str) -> Path:
    """Return the file of a built-in recipe, the one that people copy."""
    return Path(__file__).with_name(f"{_entry(name)[0]}.py")


def get(name: str) -> RecipeInfo:
    """Import a built-in recipe; this imports torch.

    Raises:
        UsageError: no recipe has that name; the nearest one is named.
    """
    module = import_module(f"loopwright.recipes.{_entry(name)[0]}")
    return info_of(getattr(module, name.replace("-", "_")))


def _entry(name: str) -> tuple[str, str]:
    name = name if name in BUILT_IN else name.replace("_", "-")
    if name not in BUILT_IN:
        raise UsageError(
            f"there is no recipe {name!r}", slug="unknown-recipe", hint=did_you_mean(name, BUILT_IN)
        )
    return BUILT_IN[name]


def find(name_or_path: str) -> RecipeInfo:
    """Return a recipe by its name, or by the path of a Python file."""
    if name_or_path.replace("_", "-") in BUILT_IN:
        return get(name_or_path.replace("_", "-"))
    if (
        "/" in name_or_path
        or "\\" in name_or_path
        or "." in name_or_path
        or Path(name_or_path).exists()
    ):
        return load_file(name_or_path)
    return get(name_or_path)


def load_file(path: str | Path) -> RecipeInfo:
    """Import a Python file that holds exactly one recipe.

    The file's syntax tree is looked at first: one without a recipe is never run. Its folder is
    put in front of ``sys.path``, as ``python file.py`` does.

    Args:
        path: a ``.py`` file.

    Raises:
        UsageError: no such file, not Python, no recipe in it, or more than one. What the file
            itself raises while it is imported comes through as it is.
    """
    found = find_recipe(Path(path))
    module = import_file(found.path)
    function = getattr(module, found.function, None)
    if function is None or not hasattr(function, MARK):
        raise UsageError(
            f"{found.function} is no longer a recipe when the file has been imported",
            slug="not-a-recipe",
            where=f"{path}:{found.line}",
            hint="put @lw.recipe above every other decorator, and do not rebind the name",
        )
    return info_of(function)
