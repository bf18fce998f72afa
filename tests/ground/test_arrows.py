"""The rooms import each other in one direction only (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "loopwright"
PLAIN = {"errors", "events", "denormals"}
ARROWS = {
    "uncaught": set(),
    "errors": {"uncaught"},
    "events": set(),
    "denormals": set(),
    "checkpoint": PLAIN,
    "parallel": PLAIN | {"uncaught"},
    "observe": PLAIN,
    "report": PLAIN,
    "train": PLAIN | {"checkpoint", "parallel", "report", "uncaught"},
    "checker": PLAIN | {"observe", "report"},
    "explainer": PLAIN | {"observe", "report"},
    "recipes": PLAIN | {"", "train"},
    "cli": PLAIN
    | {
        "",
        "train",
        "recipes",
        "checkpoint",
        "parallel",
        "report",
        "checker",
        "explainer",
        "observe",
    },
    "__main__": {"cli"},
}
"""Room -> rooms that it may import; "" is the package itself (``import loopwright as lw``)."""

FILES = sorted(
    set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"}
)  # that one names public names
HEAVY = (
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
    "IPython",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "PIL",
    "pyarrow",
    "sklearn",
    "tensorboard",
    "torch.utils.tensorboard",
    "torchdata",
    "torchmetrics",
    "trackio",
    "wandb",
    "yaml",
)
"""Seconds of import, or an extra: never at the top of a module."""
FIXES = ("libcst", "loopwright.checker.fixes")
"""The folder ``checker/fixes`` is made of an extra: no other module imports it at its top."""


def imports(tree: ast.AST, package: str):
    """Yield (line, dotted name) of every import below ``tree``; relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def top_level(tree: ast.Module) -> ast.Module:
    """Only what runs when the module is imported: no function bodies, no ``if TYPE_CHECKING``."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        def visit_AsyncFunctionDef(self, node):
            return None

        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Strip().visit(tree)


def room_of(name: str) -> str | None:
    """The room that an absolute dotted name is in; None outside the package."""
    parts = name.split(".")
    if parts[0] != "loopwright":
        return None
    if len(parts) == 1 or parts[1] == "__version__":
        return None if len(parts) > 1 else ""
    return parts[1] if parts[1] in ARROWS else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrows(file):
    """A module imports only the rooms that its own room may know, late imports included."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    room = parts[0]
    assert room in ARROWS, f"{room} is a new room: draw its arrows here and in docs/architecture.md"
    package = ".".join(("loopwright", *parts[:-1]))
    wrong = [
        f"{file}:{line} imports {name}"
        for line, name in imports(ast.parse(file.read_text()), package)
        if (target := room_of(name)) is not None and target != room and target not in ARROWS[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_heavy_import_at_the_top(file):
    """What costs seconds or is an extra is imported where it is used, never with the module."""
    tree = top_level(ast.parse(file.read_text()))
    late = HEAVY if file.parent.name == "fixes" else (*HEAVY, *FIXES)
    wrong = [
        f"{file}:{line} imports {name}"
        for line, name in imports(tree, "loopwright")
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in late)
    ]
    assert wrong == []


def test_the_test_sees_a_wrong_arrow():
    """Control: absolute, relative, late and package-level imports are all resolved."""
    source = (
        "def f():\n    from ..train.run import Run\nimport loopwright as lw\nfrom . import html\n"
    )
    found = [room_of(name) for _, name in imports(ast.parse(source), "loopwright.report")]
    assert sorted(found) == ["", "report", "train"]


def test_torch_free_rooms():
    """errors, events and report never name torch; cli only inside functions."""
    for file in FILES:
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        tree = ast.parse(file.read_text())
        if room == "cli":
            tree = top_level(tree)
        elif room not in ("errors", "events", "report"):
            continue
        names = [name for _, name in imports(tree, "loopwright") if name.split(".")[0] == "torch"]
        assert names == [], file
