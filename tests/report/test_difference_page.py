"""The page of a difference in a real browser: no error, nothing loaded, nothing beside the page."""

from __future__ import annotations

import pytest

from loopwright.events.explained import DifferenceRecord, LineChange
from loopwright.report.difference_html import render
from loopwright.report.difference_terminal import render as in_terminal
from report.fitting import does_not_fit

pytestmark = pytest.mark.browser

RECORD = DifferenceRecord(
    before="a.py", after="b <&>.py", same=7,
    lines=[
        LineChange("gone", "optimizer.zero_grad()", "", 10, 0, "a.py", "training loop", 1,
                   before=["`.grad` was `None`."]),
        LineChange("does", "loss.backward()", "loss.backward()", 12, 11, "a.py", "training loop", 2,
                   before=["`None` → values" + " and more" * 30], after=["**added** to"]),
        LineChange("new", "", "x = '<b>' * 1" + "0" * 200, 0, 3, "b.py", after=["It is new."]),
        LineChange("numbers", "f(x)", "f(x)", 5, 5, "b.py", "training loop", 3, follows=True,
                   before=["norm 1"], after=["norm 2"]),
    ],
    facts=[["loss in step 3", "1.5", "2.5"]],
    notes=["a.py seeds no generator"],
)  # fmt: skip


@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_and_says_everything(visit, width):
    """On a phone and on a desk; what is a program's is text, not HTML."""
    page = visit(render(RECORD), viewport={"width": width, "height": 800})
    assert does_not_fit(page) == []
    assert page.locator("#lines > article").count() == 3
    assert "b <&>.py" in page.inner_text("h1")
    assert page.locator("del").inner_text() == "optimizer.zero_grad()"
    page.locator("summary").click()
    assert "norm 2" in page.inner_text("details")


def test_terminal():
    """The same in at most 100 columns."""
    text = in_terminal(RECORD)
    assert "1 line is gone, 1 line is new, 1 line does something else; 7 do the same" in text
    assert "From step 3 on 1 more line differs in numbers alone (line 5)." in text
    assert "note: a.py seeds no generator" in text
    assert all(len(line) <= 100 for line in text.splitlines())
