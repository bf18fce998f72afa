"""Looking at a recipe's file before it is run, and running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from loopwright.errors import UsageError
from loopwright.recipes.nearest import did_you_mean


@dataclass(frozen=True, slots=True)
class Found:
    """The one recipe of a file."""

    path: Path
    function: str
    line: int


def find_recipe(path: Path) -> Found:
    """Return the one function of a file that is marked ``@lw.recipe``, without running the file.

    Raises:
        UsageError: no such file, not Python, no recipe in it, or more than one.
    """
    tree = _parse(path)
    if not tree.body:
        raise UsageError(
            "the file is empty",
            slug="recipe-syntax",
            where=str(path),
            hint="`loopwright new my_recipe.py` writes one to start from",
        )
    found = list(_marked_functions(tree, path))
    if not found:
        raise UsageError(
            "this is a program: run it with python, or loopwright check / explain",
            slug="not-a-recipe",
            where=str(path),
            hint="a recipe is a function marked @lw.recipe; `loopwright new mine.py` writes one",
        )
    if len(found) > 1:
        listed = ", ".join(f"{node.name} (line {node.lineno})" for node in found)
        raise UsageError(
            f"{len(found)} recipes in one file: {listed}",
            slug="several-recipes",
            where=str(path),
            hint="leave one @lw.recipe in it",
        )
    return Found(path.resolve(), found[0].name, found[0].lineno)


def _parse(path: Path) -> ast.Module:
    if not path.exists():
        folder = path.parent
        siblings = sorted(file.name for file in folder.glob("*.py")) if folder.is_dir() else []
        hint = (
            did_you_mean(path.name, siblings)
            if siblings
            else "`loopwright recipes` lists those that are built in"
        )
        raise UsageError(f"there is no file {path}", slug="no-recipe-file", hint=hint)
    if not path.is_file() or path.suffix != ".py":
        kind = "a folder" if path.is_dir() else "not a Python file"
        raise UsageError(
            f"{path} is {kind}", slug="no-recipe-file", hint="name a .py file or a built-in recipe"
        )
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise UsageError(
            f"the file is not valid Python: {error.msg}", slug="recipe-syntax", where=where
        ) from None
    except ValueError as error:  # null bytes, before Python 3.12
        raise UsageError(
            f"the file is not Python source: {error}", slug="recipe-syntax", where=str(path)
        ) from None


def _marked_functions(tree: ast.Module, path: Path) -> Iterator[ast.FunctionDef]:
    """Yield the top-level functions decorated with loopwright's ``recipe``, under any alias."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                aliases[name.asname or top] = name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                called = isinstance(decorator, ast.Call)
                target = decorator.func if called else decorator
                head, _, rest = ast.unparse(target).partition(".")
                full = ".".join(filter(None, (aliases.get(head, head), rest)))
                if full.startswith("loopwright.") and full.endswith(".recipe"):
                    if called:
                        raise UsageError(
                            "@lw.recipe is written without parentheses",
                            slug="recipe-annotation",
                            where=f"{path}:{decorator.lineno}",
                        )
                    yield node


def _module_name(path: Path) -> str:
    """Return the name under which a loader's worker finds the file again: the one beside it."""
    known = sys.modules.get(path.stem)
    taken = known is not None and getattr(known, "__file__", None) != str(path)
    if taken or path.stem in sys.stdlib_module_names or not path.stem.isidentifier():
        return f"loopwright_recipe_{path.stem}"
    return path.stem


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module, with its folder importable, and return it.

    Raises:
        UsageError: the file calls ``sys.exit()``, which would end the command as if it had trained.
    """
    name = _module_name(path)
    spec = spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = module_from_spec(spec)
    sys.modules[name] = module  # so that annotations, dataclasses and pickled data sets find it
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SystemExit):
            raise UsageError(
                f"the file called sys.exit({error.code!r}) while it was imported",
                slug="recipe-exits",
                where=str(path),
                hint='put what is not the recipe under `if __name__ == "__main__":`',
            ) from error
        raise
    return module
