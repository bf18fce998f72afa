"""The other outputs: terminal, comparison, SVG, JSON; none of them imports torch."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from loopwright.events import RunRecord, Series
from loopwright.report import compare, svg, terminal
from loopwright.report import json as report_json

NAMES = ["digits", "regression", "failed", "empty"]


def test_terminal_summary(samples):
    """The summary names outcome, headline, curves, phases, notes and folder, each on its line."""
    text = terminal.render(samples.digits())
    assert text.startswith("Finished  digits  12 epochs done\n")
    for words in ("validation accuracy", "best, epoch 8", "█", "backward 38", "runs/digits/3"):
        assert words in text
    assert "hint: lower the learning rate" in terminal.render(samples.failed())
    assert "Running" in terminal.render(samples.empty())


def test_terminal_shows_the_newest_sample():
    """What a recipe's last word was stands on the screen, indented, cut where it is long."""
    record = RunRecord(name="char-lm", samples=["older", "\nROMEO:\nSo \x1b[2Jwan [red]\n"])
    text = terminal.render(record)
    assert "\nsample\n  ROMEO:\n  So \ufffd[2Jwan [red]\n" in text
    assert "older" not in text
    record.samples = ["word " * 1000]
    assert 600 < len(terminal.render(record)) < 800


def test_terminal_takes_no_orders_from_names(samples):
    """Markup and escape sequences in names are shown, not obeyed."""
    record = RunRecord(name="[red]x[/red] \x1b[2J", notes=["[link=http://x]y"])
    text = terminal.render(record)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "[link=http://x]y" in text
    assert "window.hacked" in terminal.render(samples.huge(points=60, metrics=4))


def test_terminal_model_and_runs(samples):
    """The model's table adds up, the table of runs has one row a run."""
    text = terminal.to_text(terminal.model(samples.digits().model))
    assert "26,122" in text
    assert "    Linear" in text
    table = terminal.to_text(terminal.runs([getattr(samples, name)() for name in NAMES]), width=140)
    assert len(table.strip().splitlines()) == 5
    assert "98.48" in table


def test_sparkline():
    """A falling curve falls, a hole is a cross, a flat one is flat."""
    assert terminal.sparkline([3.0, 2.0, 1.0, 0.0]) == "█▆▃▁"
    assert terminal.sparkline([1.0, math.nan, 2.0]) == "▁×█"
    assert terminal.sparkline([1.0, 1.0]) == "▁▁"
    assert terminal.sparkline([]) == ""


def test_comparison_shows_differences_only(samples):
    """Settings that are the same in all runs are left out; the best of each result is marked."""
    first, second = samples.digits(), samples.digits()
    second.folder = "runs/digits/4"
    second.recipe["parameters"]["lr"] = 0.03
    second.best["valid_accuracy"]["value"] = 0.5
    assert compare.labels([first, second]) == ["digits 3", "digits 4"]
    assert compare.differing_settings([first, second]) == {"lr": ["0.01", "0.03"]}
    rows = {row.label: row for row in compare.results([first, second])}
    assert rows["best validation accuracy"].best == [True, False]
    assert rows["parameters"].best == [False, False]
    lines = {
        c.title: [line.label for line in c.lines] for c in compare.overlay([first, second], "ab")
    }
    assert lines["loss of each step"] == ["a", "b"]
    assert lines["valid_loss"] == ["a", "b"]


def test_comparison_of_anything(samples):
    """No run, one run, and more than forty of the hostile kind give a page."""
    assert "0 runs" in compare.render([])
    assert "None: these runs were asked for the same" in compare.render([samples.empty()])
    page = compare.render([samples.huge(points=30, metrics=3)] * 45)
    assert "5 more runs were left out" in page
    assert "<script>window" not in page


def test_svg_is_one_wellformed_element(samples):
    """Charts parse as XML whatever their names, with a gap and a mark where there is no number."""
    drawn = svg.line_chart(
        [Series("<a&b>", [1, 2, 3, 4], [1.0, math.nan, 3.0, 2.0]), Series("flat", [1, 2], [5, 5])],
        title='"quoted"',
    )
    root = ET.fromstring(drawn)
    paths = [node.get("d") for node in root.iter("{http://www.w3.org/2000/svg}path")]
    assert any(d.count("M") == 2 for d in paths)
    assert "NaN" in drawn
    assert ET.fromstring(svg.line_chart([])) is not None
    assert ET.fromstring(svg.line_chart([Series("x", [1], [1e308])])) is not None


def test_notebook_fragment(samples):
    """A notebook gets charts without script or style sheet, or a line that says there are none."""
    record = samples.digits()
    shown = svg.notebook("digits: <finished>", record.series, record.epochs)
    assert shown.count("<svg") == 4
    assert "<strong>digits: &lt;finished&gt;</strong>" in shown
    assert "<script" not in shown
    assert "<style" not in shown
    assert "no curves yet" in svg.curves({})


def test_json_is_strict_and_complete(samples):
    """The record survives as strict JSON; what is no number is a word."""
    text = report_json.render(samples.failed())
    back = json.loads(text, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word)))
    assert set(back) == {field.name for field in dataclasses.fields(RunRecord)}
    assert back["series"]["loss"]["y"][211:213] == ["Infinity", "NaN"]


def test_report_does_not_import_torch():
    """Rendering works in a process that never loads torch or matplotlib."""
    code = (
        "import sys, loopwright.report.html as h, loopwright.report.terminal, loopwright.report.compare\n"
        "from loopwright.events import RunRecord\n"
        "h.render(RunRecord(name='x'))\n"
        "assert not {'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_runs_are_named_as_one_types_them():
    """The first column is the folder alone; a name that the folder does not say has its own, last."""
    records = [
        RunRecord(name="digits", folder="mine/1"),
        RunRecord(name="digits", folder="digits/2"),
    ]
    head, first, second = terminal.to_text(terminal.runs(records)).splitlines()
    assert head.split()[0] == "run"
    assert head.split()[-1] == "name"
    assert first.startswith("mine/1    ")
    assert first.endswith("digits")
    assert second.startswith("digits/2  ")
    assert "name" not in terminal.to_text(terminal.runs(records[1:]))


@pytest.mark.parametrize("width", [120, 60, 40, 20, 4])
def test_runs_on_a_narrow_terminal(width):
    """Columns from the right give way; the folders stay whole."""
    records = [
        RunRecord(name="digits", folder="digits/12"),
        RunRecord(name="digits", folder="digits/2"),
    ]
    text = terminal.to_text(terminal.runs(records, width=width), width=max(width, 9))
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["digits/12", "digits/2"]
