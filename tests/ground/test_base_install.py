"""`pip install loopwright` alone is enough to train the digits."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from importlib.machinery import PathFinder

class Base:
    def find_spec(self, name, path=None, target=None):
        absent = name.split(".")[0] in {absent!r}
        return None if absent else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Base()
sys.argv = ["loopwright", "train", "digits", "--epochs", "1", "--out", "run", "--device", "cpu"]
from loopwright.cli.main import main
sys.exit(main())
"""


def base_modules():
    """Top-level modules of what the base dependencies bring, directly or through others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]]
    found = set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    distributions = importlib.metadata.packages_distributions()
    return {
        module
        for module, names in distributions.items()
        if {re.sub(r"[-_.]+", "-", name).lower() for name in names} & found
    }


def test_digits_train_with_the_base_install(tmp_path):
    """With every package of an extra hidden, the digits train and leave weights and a report."""
    absent = set(importlib.metadata.packages_distributions()) - base_modules() - {"loopwright"}
    assert {"pytest", "sklearn", "PIL"} <= absent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(absent=absent)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "final.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()
    assert "Warning" not in done.stderr
