"""Explaining a piece of one's own program, and a notebook's cell: ``lw.explain(train)`` and ``%%explain``."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from loopwright.events.explained import ExplainRecord
from loopwright.explainer.build import build
from loopwright.explainer.record import Recording
from loopwright.explainer.sentences.narrate import narrate

MEGABYTE = 1_000_000
FRAME = (
    '<iframe title="{title}" style="width:100%;height:760px;border:1px solid #8884;border-radius:12px" '
    'sandbox="allow-scripts" srcdoc="{page}"></iframe>'
)


class Explanation:
    """What each line did: ``print`` shows it as text, a notebook as a page, ``save`` writes the page.

    Attributes:
        record: everything that was recorded (``docs/explain-json.md``).
        result: what the function returned.
    """

    def __init__(self, record: ExplainRecord, result: Any = None):
        self.record = record
        self.result = result

    def __str__(self) -> str:
        from loopwright.report.explain_terminal import render

        return render(self.record)

    def __repr__(self) -> str:
        loops = [one.name for one in self.record.loops]
        return f"<Explanation of {self.record.title}: {len(self.record.steps)} turns of {', '.join(loops)}>"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that neither its style nor the notebook's reaches the other."""
        return FRAME.format(title=escape(self.record.title), page=escape(self.page()))

    def page(self) -> str:
        """The page, complete in itself."""
        from loopwright.report.explain_html import render

        return render(self.record)

    def save(self, path: str | Path) -> Path:
        """Write the page."""
        target = Path(path)
        target.write_text(self.page(), encoding="utf-8")
        return target


def explain(
    function: Callable[..., Any],
    *args: Any,
    steps: int = 3,
    whatifs: bool = True,
    budget: int = 128,
    title: str | None = None,
) -> Explanation:
    """Call ``function(*args)`` and explain what each line of it did to tensors.

    The function runs once, to its end, and computes what it would compute alone.

    Args:
        function: that trains; what it calls in the program's own files is explained too.
        *args: its arguments.
        steps: turns of each loop that are recorded in full.
        whatifs: run a recorded step again on copies, with one thing changed each time.
        budget: megabytes for copies.
        title: of the page; the function's name by default.

    Examples:
        >>> import torch, loopwright as lw
        >>> def train():
        ...     w = torch.tensor([1.0, 2.0], requires_grad=True)
        ...     (100 * w).sum().backward()
        ...     torch.optim.SGD([w], lr=0.001).step()
        ...     return w
        >>> seen = lw.explain(train)
        >>> seen.result
        tensor([0.9000, 1.9000], requires_grad=True)
    """
    recording = Recording(steps=steps, whatifs=whatifs, budget=budget * MEGABYTE)
    recording.start(outer=False)
    try:
        result = function(*args)
    finally:
        recording.stop()
    record = build(recording)
    record.title = title or getattr(function, "__name__", type(function).__name__)
    narrate(record)
    return Explanation(record, result)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext loopwright`` gives notebooks ``%%explain``."""
    shell.register_magic_function(_Cell(shell).explain, "cell", "explain")


class _Cell:
    def __init__(self, shell: Any):
        self.shell = shell

    def explain(self, line: str, cell: str) -> Explanation | None:
        """Run a cell and explain it; ``%%explain 5`` records five steps of each loop."""
        words = line.split()
        steps = int(words[0]) if words else 3
        seen = explain(self.shell.run_cell, cell, steps=steps, title="this cell")
        return seen if seen.result.success else None
