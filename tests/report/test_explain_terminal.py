"""The gutter of an explanation in the terminal."""

from __future__ import annotations

from loopwright.events.explained import ExplainRecord, FileNote, LineNote, LoopNote, StepNote
from loopwright.report.explain_terminal import _wrapped_code, render

TEXT = """\
for data in loader:
    total += criterion(model(data),
                       data).item()
    total += 1
    train(model.to(device)(data).item())
"""


def gutter(note: LineNote) -> list[str]:
    """What stands in the first columns beside the source, and the source's beginning."""
    loop = LoopNote("training loop", "training", 0, 1, 5, "", "", 1, 1, None, [], [])
    record = ExplainRecord(loops=[loop], steps=[StepNote(0, 1, 1.0, [], [note], None, [])])
    record.files = [FileNote("/tmp/train.py", TEXT, [[1, 1], [2, 3], [4, 4], [5, 5]])]
    return [f"{line[:9].strip()}|{line[20:].strip()}" for line in render(record).splitlines()]


def test_every_phase_of_a_line_has_a_badge_that_can_be_read():
    """Three phases of one line: the first one beside it, the others beside what is told under it."""
    note = LineNote(0, 5, 5, 1, phases=["transfer", "forward", "item"], sentences=["One."])
    shown = gutter(note)
    at = next(i for i, line in enumerate(shown) if line.startswith("transfer"))
    assert "train(model" in shown[at]
    assert shown[at + 1].startswith("forward|")
    assert "One." in shown[at + 1]
    assert shown[at + 2].startswith("item|")
    assert len(shown[at + 2]) <= len("item|│")


def test_a_statement_of_two_lines_has_its_badges_beside_them():
    """No line is put between the lines of one statement."""
    note = LineNote(0, 2, 3, 1, phases=["forward", "loss", "item"], sentences=["One.", "Two."])
    shown = gutter(note)
    at = next(i for i, line in enumerate(shown) if line.startswith("forward"))
    assert "criterion" in shown[at]
    assert shown[at + 1].startswith("loss|")
    assert "data).item()" in shown[at + 1]
    assert shown[at + 2].startswith("item|")
    assert "One." in shown[at + 2]


def test_backticks_take_no_room():
    """Lines are as full as they can be, and code keeps its colour where it goes on in the next one."""
    words = "`a` of `b c` and `d['\t']` is `None` now, and of `model.layer` too"
    lines = _wrapped_code(words, 20)
    assert [line.plain for line in lines] == [
        "a of b c and d[' ']",
        "is None now, and of",
        "model.layer too",
    ]
    coloured = "".join(
        line.plain[span.start : span.end] for line in lines for span in line.spans if span.style
    )
    assert coloured == "ab cd[' ']Nonemodel.layer"
