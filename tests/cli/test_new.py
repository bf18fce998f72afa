"""``loopwright new``: a starter recipe that runs as it is."""

from __future__ import annotations

import sys

import pytest

from loopwright.cli.new import new, starter
from loopwright.errors import UsageError
from loopwright.recipes import registry


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("my_recipe", "my_recipe"),
        ("my-recipe", "my_recipe"),
        ("3d", "recipe_3d"),
        ("class", "recipe_class"),
        ("torch", "recipe_torch"),
        ("spirals", "recipe_spirals"),
        ("data", "recipe_data"),
        ("größe", "größe"),
    ],
)
def test_function_is_named_after_the_file(stem, name):
    """The file's name becomes the function's, made a Python name where it is none."""
    assert f"def {name}(" in starter(stem)


def test_written_recipe_loads(tmp_path, capsys, monkeypatch):
    """The starter is a recipe with help for every parameter, and says how to go on."""
    monkeypatch.setitem(sys.modules, "mine", None)  # so that it is put back
    del sys.modules["mine"]
    monkeypatch.setattr(sys, "path", list(sys.path))
    new(tmp_path / "mine.py")
    info = registry.find(str(tmp_path / "mine.py"))
    assert info.name == "mine"
    assert all(parameter.help for parameter in info.parameters)
    assert f"loopwright train {tmp_path / 'mine.py'}" in capsys.readouterr().out


def test_existing_file_is_kept(tmp_path):
    """An existing file is refused and stays as it was."""
    (tmp_path / "mine.py").write_text("mine\n")
    with pytest.raises(UsageError, match="exists already"):
        new(tmp_path / "mine.py")
    assert (tmp_path / "mine.py").read_text() == "mine\n"


def test_bad_places(tmp_path):
    """Another suffix and a missing folder are refused."""
    with pytest.raises(UsageError, match="Python file"):
        new(tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="there is no folder"):
        new(tmp_path / "none" / "mine.py")
