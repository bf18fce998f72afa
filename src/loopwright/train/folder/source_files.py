"""The user's own source files of a run: where they are, and which have changed since it began."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from loopwright.errors import LoopwrightWarning

PACKAGE = Path(__file__).resolve().parents[2]
MOST = 1000


def code_folder(recipe: str | None = None) -> Path:
    """Return the folder of the user's code: of the recipe's file, else of the program.

    Where there is neither (a notebook, a recipe of ours, an installed program) it is the working folder.
    """
    file = recipe or getattr(sys.modules.get("__main__"), "__file__", None)
    if file is not None and (recipe is not None or _is_users(Path(file).resolve())):
        return Path(file).resolve().parent
    return Path.cwd()


def hashes(recipe: str | None = None) -> dict[str, str]:
    """Return name -> hash of the user's files that are loaded from the code's folder.

    Costs 11 ms where torch has loaded its 1,900 modules.
    """
    folder = code_folder(recipe)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}

    @functools.cache  # a few hundred folders, which share most of their parents
    def real(place: str) -> str:
        above, name = os.path.split(place)
        if not name or name in (os.curdir, os.pardir):
            return os.path.realpath(place)
        inside = os.path.join(real(above), name)
        return os.path.realpath(inside) if os.path.islink(inside) else inside

    inside = str(folder) + os.sep
    found = {}
    for file in sorted(file for file in {*files, recipe} if file and file.endswith(".py")):
        place, name = os.path.split(file)
        if real(place) != str(folder) and not real(place).startswith(inside):
            continue
        path = Path(real(place), name)
        if _is_users(path):
            try:
                content = path.read_bytes()
            except OSError:  # gone since it was imported
                continue
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()[:16]
    return dict(list(found.items())[:MOST])


def warn_if_changed(old: Any, new: dict[str, str]) -> None:
    """Warn when a run goes on with other code than it began with; ``old`` is as it was read."""
    if not isinstance(old, dict):  # of a folder from before sources were noted
        return
    changed = [name for name, value in new.items() if old.get(name, value) != value]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        have = "has" if len(changed) == 1 else "have"
        warnings.warn(
            f"{', '.join(changed[:3])}{more} {have} changed since this run began: what it trains from "
            "here on, it trains by the new code  [changed-source]",
            LoopwrightWarning,
            stacklevel=2,
        )


def _is_users(path: Path) -> bool:
    """Whether a file is neither installed, nor Python's, nor ours."""
    ours = path.is_relative_to(PACKAGE)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    standard = path.is_relative_to(os.path.dirname(os.__file__))
    return not (ours or installed or standard or path.parent == Path(sys.executable).parent)
