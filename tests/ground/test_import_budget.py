"""What an import brings, counted in modules (seconds are in benchmarks/import_time.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import sys
{before}
before = set(sys.modules)
{statement}
new = set(sys.modules) - before
print("\\n".join(sorted(new)))
"""
STANDARD = set(sys.stdlib_module_names)
EVERYDAY = {
    "loopwright",
    "torch",
    "numpy",
    "safetensors",
    "tqdm",
    "rich",
    "jinja2",
    "markupsafe",
    "pygments",
}


def modules(statement: str, before: str = "") -> set[str]:
    """The modules that ``statement`` adds in a fresh interpreter that has run ``before``."""
    code = COUNT.format(before=before, statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def outside(names: set[str]) -> set[str]:
    """The top-level packages among ``names`` that are not Python's own."""
    return {name.split(".")[0] for name in names} - STANDARD - {"__mp_main__"}


def test_import_loopwright_imports_nothing_else():
    """``import loopwright`` adds one module of its own and nothing that is not Python's."""
    new = modules("import loopwright")
    assert outside(new) == {"loopwright"}
    assert {name for name in new if name.startswith("loopwright")} == {"loopwright"}
    assert len(new) <= 40


def test_errors_need_no_torch():
    """An error class can be imported, and so caught, without torch."""
    assert outside(modules("import loopwright; loopwright.UsageError")) == {"loopwright"}


def test_run_adds_little_to_torch():
    """``lw.Run`` adds few modules to a program that trains with torch already."""
    new = modules("import loopwright; loopwright.Run", before="import torch, torch.utils.data")
    assert outside(new) <= EVERYDAY
    heavy = {
        "torch._dynamo",
        "torch._inductor",
        "torch.distributed.tensor",
        "torch.distributed.fsdp",
    }
    assert new.isdisjoint(heavy)
    assert len([name for name in new if name.startswith("loopwright")]) <= 100  # 12 are folders
    assert len(new) <= 140


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["recipes"]])
def test_the_command_line_answers_without_torch(words):
    """Help, the version and the list of recipes import no torch."""
    statement = f"""
sys.argv = ["loopwright", *{words!r}]
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    try:
        from loopwright.cli.main import main
        code = main()
    except SystemExit as end:
        code = end.code
assert not code, code
"""
    new = modules(statement)
    assert "torch" not in new
    assert len(new) <= 320
