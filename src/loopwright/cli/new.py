"""``loopwright new FILE.py``: a commented recipe that runs as it is."""

from __future__ import annotations

import ast
import keyword
from importlib.resources import files
from pathlib import Path

from loopwright.errors import DiskError, UsageError


def new(file: Path, /) -> None:
    """Write a commented starter recipe that runs as it is.

    An existing file is never touched.

    Args:
        file: The file to write, for example my_recipe.py.
    """
    if file.suffix != ".py":
        raise UsageError(
            f"a recipe is a Python file, {file.name!r} is not",
            slug="bad-recipe-name",
            where="command line",
            hint=f"loopwright new {Path(file.stem or 'my_recipe').with_suffix('.py')}",
        )
    text = starter(file.stem)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{file} exists already",
            slug="file-exists",
            where="command line",
            hint="choose another name; nothing was changed",
        ) from error
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no folder {file.parent}", slug="no-such-file", where="command line"
        ) from error
    except OSError as error:
        what = f"cannot write {file}: {(error.strerror or str(error)).lower()}"
        raise DiskError(what, slug="cannot-write", where=str(file)) from error
    print(f"wrote {file}; now:\n  loopwright train {file}\n  loopwright train {file} --help")


def starter(stem: str) -> str:
    """The starter's text, its function named after the file."""
    template = (files("loopwright.cli") / "starter.py.txt").read_text(encoding="utf-8")
    name = "".join(letter if letter.isalnum() else "_" for letter in stem).lower()
    if not name.isidentifier() or keyword.iskeyword(name) or name in _words(template):
        name = f"recipe_{name}"
    return template.replace("my_recipe", name)


def _words(template: str) -> set[str]:
    """Every name that the starter uses itself."""
    return {
        name
        for node in ast.walk(ast.parse(template))
        for field in ("id", "name", "arg", "asname", "attr")
        if isinstance(name := getattr(node, field, None), str)
    } - {"my_recipe"}
