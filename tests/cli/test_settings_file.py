"""Settings files in TOML and YAML."""

from __future__ import annotations

import sys

import pytest

from loopwright.cli.settings_file import read_settings
from loopwright.errors import UsageError

TOML = """\
recipe = "digits"
lr = 0.05
epochs = 20
compile = true
log = ["tensorboard"]
"""
YAML = """\
recipe: digits
lr: 0.05
epochs: 20
compile: true
log: [tensorboard]
"""


@pytest.mark.parametrize(("name", "text"), [("s.toml", TOML), ("s.yaml", YAML), ("s.yml", YAML)])
def test_read(tmp_path, name, text):
    """The recipe, and every other key as the command line would say it."""
    (tmp_path / name).write_text(text)
    settings = read_settings(tmp_path / name)
    assert settings.recipe == "digits"
    assert settings.values == {
        "lr": "0.05",
        "epochs": "20",
        "compile": "true",
        "log": ["tensorboard"],
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.toml", b"", "s.toml sets nothing"),
        ("s.toml", b"lr = 1", "s.toml names no recipe"),
        ("s.toml", b"recipe = 3", "s.toml names a recipe that is 3"),
        ("s.toml", b"recipe = digits", "not valid TOML"),
        ("s.toml", b"\xff\xfe\x00", "s.toml is not a text file"),
        ("s.toml", b'recipe = "digits"\n[loop]\nlr = 1', "loop is a table"),
        ("s.toml", b'recipe = "digits"\nwhen = 2020-01-01', "when is a date"),
        ("s.yaml", b"recipe: [", "not valid YAML"),
        ("s.yaml", b"- digits", "s.yaml sets nothing"),
        ("s.yaml", b"just words", "s.yaml sets nothing"),
    ],
)
def test_refused(tmp_path, name, content, message):
    """A file that can't be settings is refused in one sentence that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_settings(tmp_path / name)
    assert caught.value.what.startswith(message)
    assert caught.value.where == str(tmp_path / name)
    assert "\n" not in caught.value.what


def test_toml_error_names_the_line(tmp_path):
    """A syntax error is told with its line."""
    (tmp_path / "s.toml").write_text('recipe = "digits"\nlr = = 1\n')
    with pytest.raises(UsageError, match="line 2"):
        read_settings(tmp_path / "s.toml")


def test_missing_file_and_folder(tmp_path):
    """A missing file and a folder in its place are told apart."""
    with pytest.raises(UsageError, match="no such file"):
        read_settings(tmp_path / "s.toml")
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        read_settings(tmp_path / "d.toml")


def test_without_pyyaml(tmp_path, monkeypatch):
    """Without PyYAML a YAML file says what to install, and that TOML needs nothing."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "s.yaml").write_text(YAML)
    with pytest.raises(UsageError, match="PyYAML") as caught:
        read_settings(tmp_path / "s.yaml")
    assert "TOML" in caught.value.hint
