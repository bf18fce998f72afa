"""The tutorial that is explained when no program is named answers what it promises; memory line by line."""

from __future__ import annotations

import re

import pytest

from explainer.recorded import line, record, said, step
from loopwright.cli.explain import tutorial
from loopwright.report import explain_html

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


@pytest.fixture(scope="module")
def explained_tutorial(run_program, tmp_path_factory):
    """The tutorial's record, and what it printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tutorial.py").write_text(tutorial())
    return record(run_program, folder / "tutorial.py", folder / "record.json")


@pytest.mark.long
def test_the_tutorial_answers(explained_tutorial):
    """Two numbers, leaves, kept gradients, gradients set by hand, and the loop that everybody writes."""
    seen = explained_tutorial
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


@pytest.mark.long
def test_batch_losses_beside_the_epochs_mean(explained_tutorial):
    """The mean of each epoch's batch losses is what the tutorial prints; both are drawn where they lie."""
    seen = explained_tutorial
    size = 22  # 1,400 samples, 64 at a time
    (loop,) = [int(at) for at, found in seen.losses.items() if len(found) == 3 * size]
    batches = seen.losses[str(loop)]
    means = [sum(batches[at : at + size]) / size for at in range(0, len(batches), size)]
    printed = re.findall(r"epoch \d: loss ([\d.]+), (\d+) of 397 right", seen.printed)
    assert [one for one, _ in printed] == [f"{mean:.4f}" for mean in means]
    assert all(int(right) > 300 for _, right in printed)  # validation
    drawn = str(explain_html.losses(seen, loop))
    assert f">batch loss {batches[-1]:.4g}</span>" in drawn  # the key, in the lines' colours
    assert f">epoch mean {means[-1]:.4g}</span>" in drawn
    lines = [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+)[ ,]([\d.]+)", path)]
        for path in re.findall(r'<path[^>]* d="([^"]+)"', drawn)
    ]
    first, second = [line for line in lines if len(line) in (len(batches), 2 * len(means))]
    levels = [level for mean in means for level in (mean, mean)]
    (x0, y0), (x1, y1) = first[0], first[-1]
    down = (y1 - y0) / (batches[-1] - batches[0])
    along = (x1 - x0) / (len(batches) - 1)
    for at, (x, y) in enumerate(first):
        assert (x, y) == (
            pytest.approx(x0 + along * at, abs=0.2),
            pytest.approx(y0 + down * (batches[at] - batches[0]), abs=0.3),
        )
    ends = [at for epoch in range(3) for at in (epoch * size, epoch * size + size - 1)]
    for at, level, (x, y) in zip(ends, levels, second, strict=True):
        assert (x, y) == (
            pytest.approx(x0 + along * at, abs=0.2),
            pytest.approx(y0 + down * (level - batches[0]), abs=0.3),
        )
