"""The tutorial that is explained when no program is named answers what it promises; memory line by line."""

from __future__ import annotations

import pytest

from explainer.recorded import line, record, said, step
from loopwright.cli.explain import tutorial

MEMORY = """\
import torch
w = torch.ones(1000, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
kept = None
for turn in range(3):
    optimizer.zero_grad()
    kept = torch.zeros(500)
    two = [torch.zeros(8), torch.zeros(16)]
    w.sum().backward()
    optimizer.step()
"""


def test_memory_of_each_line(explained):
    """Bytes made and freed are those of the tensors that the line makes and lets go of."""
    seen = explained(MEMORY, timed=0, whatifs=False)
    found = [line(step(seen, 2), seen, text).effects for text in ("kept =", "two =", "zero_grad")]
    assert [(one.made, one.made_bytes, one.freed, one.freed_bytes) for one in found] == [
        (1, 2000, 1, 2000), (2, 96, 2, 96), (0, 0, 1, 4000)]  # fmt: skip


@pytest.mark.long
def test_the_tutorial_answers(run_program, tmp_path):
    """Two numbers, leaves, kept gradients, gradients set by hand, and the loop that everybody writes."""
    (tmp_path / "tutorial.py").write_text(tutorial())
    seen = record(run_program, tmp_path / "tutorial.py", tmp_path / "record.json")
    told = "\n".join(said(seen)).replace("\xa0", " ")
    for words in (
        "None` → values = [100, 100]",
        "[1, 2] → [0.9, 1.9]",
        "[0.9, 1.9] → [0.8, 1.8]",
        "it requires grad, but is no leaf, so its `.grad` stays `None`",
        "it is no leaf, and still",
        "the same tensor, nothing was copied",
        "it holds no graph",
    ):
        assert words in told, words
    for words in (
        "before backward gives the same weights: True",
        "after step gives the same weights: True",
        "between backward and step trains nothing: True",
        "never clearing gives the same weights: False",
        "the same sum: True",
    ):
        assert words in seen.printed, words
