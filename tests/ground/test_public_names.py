"""The public names: what they are, that each is there, and that no module hides one."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import loopwright

NAMES = """
    Accuracy Checkpoint CheckpointError DataError DiskError EMA Explanation Job Loop LoopwrightError
    LoopwrightWarning Mean NonFiniteError Predictions Run StateError Step UsageError
    checkpoint_activations class_weights early_stopping explain find_batch_size fit check freeze
    load_weights lr_range_test metric on_metric parameter_groups per_epoch per_update profile recipe
    seed split Sum summary throughput warmup_constant warmup_cosine warmup_linear watch
"""
PUBLIC = NAMES.split()

IMPORT_EVERYTHING = """
import importlib, pkgutil, types
import loopwright
for found in pkgutil.walk_packages(loopwright.__path__, "loopwright."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
for name in loopwright.__all__:
    value = getattr(loopwright, name)
    if isinstance(value, types.ModuleType):
        print(name)
"""


def test_frozen():
    """Adding, renaming or removing a public name is a decision, made here as well."""
    assert sorted(PUBLIC) == list(loopwright.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_there(name):
    """Every public name can be imported and says what it is."""
    assert getattr(loopwright, name).__doc__


def test_dir_lists_them_without_importing():
    """``dir()`` (and so tab completion) knows every name beforehand."""
    assert set(PUBLIC) <= set(dir(loopwright))


def test_unknown_name():
    """A name that is not there is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        loopwright.nonsense  # noqa: B018


def test_type_checkers_see_the_same_names():
    """The imports for type checkers are the lazy table, spelled out."""
    tree = ast.parse(Path(loopwright.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module.removeprefix("loopwright.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == loopwright._HOME


def test_no_public_name_is_a_module():
    """No subpackage has a public name's name: importing it would overwrite the name."""
    modules = {found.name for found in pkgutil.iter_modules(loopwright.__path__)}
    assert modules.isdisjoint(PUBLIC)


def test_no_public_name_is_a_module_after_importing_everything():
    """Every public name is still itself after every module of the package was imported."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
