"""Findings in the terminal, as JSON and GitHub annotations."""

from __future__ import annotations

import json

import pytest

from loopwright.events import CheckRecord, Finding, Place, ProgramEnd
from loopwright.report import findings, findings_json, github

SOURCE = (
    "import torch\n\nfor x in data:\n    loss = f(x)\n    loss.backward()\n    optimizer.step()\n"
)


@pytest.fixture
def record(tmp_path, monkeypatch):
    """One error with a related place, one hint."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train.py"
    file.write_text(SOURCE)
    error = Finding(
        "missing-zero-grad", "error", Place(str(file), 6, 5, 6, 21), "grads held: 50 %, more",
        why="steps repeat", fix="optimizer.zero_grad()\nloss.backward()", count=1200,
        related=[Place(str(file), 5, 5, 5, 20, "adds")], ranks=[1, 0],
    )  # fmt: skip
    hint = Finding("eval-without-no-grad", "hint", Place(str(file), 4, 12, 4, 16), "a graph")
    end = ProgramEnd(["python", "train.py"], 0)
    return CheckRecord(
        [error, hint], end, {"step": 2}, steps=2, processes=1, suppressed=1, notes=["n"]
    )


def test_frame(record):
    """The expression is underlined, the related line is marked, reasons and fix stand below."""
    assert findings.frame(record.findings[0]) == (
        "error[missing-zero-grad]: grads held: 50 %, more (ranks 0, 1)\n"
        " --> train.py:6:5\n"
        "  |\n"
        "5 |     loss.backward()\n"
        "  |     --------------- adds\n"
        "6 |     optimizer.step()\n"
        "  |     ^^^^^^^^^^^^^^^^ 1,200 times\n"
        "  |\n"
        "  = why: steps repeat\n"
        "  = fix: optimizer.zero_grad()\n"
        "  =      loss.backward()\n"
    )


def test_summary(record):
    """The last line counts findings and what was observed; colours only where they are asked for."""
    text = findings.render(record)
    assert text.endswith(
        "note: n\nloopwright check: 1 error, 1 hint; 1 suppressed; 2 steps and 2 events observed\n"
    )
    assert "\x1b" not in text
    assert "\x1b[1;31merror[missing-zero-grad]" in findings.render(record, colour=True)


def test_nothing_seen():
    """A check that saw no step says so: finding nothing then means little."""
    assert "no optimizer step was seen" in findings.render(CheckRecord())


def test_no_source(tmp_path):
    """A finding in a file that is not there has a place and no frame."""
    gone = Finding("double-softmax", "error", Place(str(tmp_path / "gone.py"), 3), "m")
    assert findings.frame(gone).splitlines()[1].endswith("gone.py:3:1")


def test_json(record):
    """Every field of the documented schema is there."""
    told = json.loads(findings_json.render(record))
    assert set(told) == {"version", "findings", "program", "observed", "suppressed", "notes"}
    first = told["findings"][0]
    assert first["file"] == "train.py"
    assert first["related"][0]["note"] == "adds"
    assert [first["related"][0][k] for k in ("line", "column", "end_line", "end_column")] == [
        5,
        5,
        5,
        20,
    ]


def test_github(record):
    """Annotations escape what GitHub would misread."""
    first, second, _ = github.render(record).splitlines()
    assert first.startswith(
        "::error file=train.py,line=6,col=5,endLine=6,endColumn=21,title=missing-zero-grad::"
    )
    assert (
        "50 %25, more%0Awhy: steps repeat%0Afix: optimizer.zero_grad()%0Aloss.backward()" in first
    )
    assert second.startswith("::notice ")
