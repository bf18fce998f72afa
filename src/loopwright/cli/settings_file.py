"""``train settings.toml``: which recipe, its parameters and the loop's settings, in TOML or YAML.

    recipe = "digits"          # a built-in name, or a file relative to this one
    lr = 0.05                  # the recipe's own parameters
    epochs = 20                # the loop's settings, spelled like their flags
    log = ["tensorboard"]

The command line wins over the file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopwright.errors import UsageError

SUFFIXES = (".toml", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one file says: ``recipe`` as it is written there, and all other keys."""

    path: Path
    recipe: str
    values: dict[str, str | list[str]]


def read_settings(path: Path) -> Settings:
    """Read a settings file; UsageError with the line when it can't be."""
    if not path.exists():
        raise UsageError(f"no such file: {path}", slug="no-such-file", where="command line")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", slug="no-such-file", where="command line")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _broken(path, f"{path.name} is not a text file: {error.reason}") from error
    content = _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)
    if not isinstance(content, dict) or not content:
        raise _broken(path, f"{path.name} sets nothing", 'write at least recipe = "digits"')
    recipe = content.pop("recipe", None)
    if not isinstance(recipe, str) or not recipe:
        what = "names no recipe" if recipe is None else f"names a recipe that is {recipe!r}"
        raise _broken(path, f"{path.name} {what}", 'add a line: recipe = "digits"')
    return Settings(path, recipe, {key: _words(path, key, value) for key, value in content.items()})


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, f"not valid TOML: {error}") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise _broken(
            path,
            "YAML files need PyYAML, which is not installed",
            "pip install pyyaml, or write the same settings as TOML",
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _broken(path, f"not valid YAML: {' '.join(str(error).split())}") from error


def _words(path: Path, key: Any, value: Any) -> str | list[str]:
    """A value as the command line would say it."""
    if isinstance(value, list):
        return [_word(path, key, item) for item in value]
    return _word(path, key, value)


def _word(path: Path, key: Any, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise _broken(
        path,
        f"{key} is a {'table' if isinstance(value, dict) else type(value).__name__}",
        "settings are numbers, texts, true or false, and lists of these, without tables",
    )


def _broken(path: Path, what: str, hint: str | None = None) -> UsageError:
    return UsageError(what, slug="broken-settings", where=str(path), hint=hint)
