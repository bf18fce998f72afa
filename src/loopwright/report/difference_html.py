"""The difference of two explanations as a page."""

from __future__ import annotations

from loopwright.events.explained import DifferenceRecord
from loopwright.report.difference_view import (
    TITLES,
    aftermath,
    following,
    headline,
    told,
    when,
    where,
)
from loopwright.report.explain_html import says
from loopwright.report.html import page

output_file_extension = ".html"


def render(record: DifferenceRecord) -> str:
    """One self-contained page: each changed line with what it did and does."""
    return page(
        "difference.html.jinja",
        script="explain.js",
        styles=("report.css", "explain.css"),
        data={"loops": [], "loop": 0, "step": 0, "tensors": {}, "graphs": []},
        title=f"{record.before} → {record.after}",
        record=record,
        headline=headline(record),
        told=told(record),
        following=following(record),
        aftermath=aftermath(record),
        titles=TITLES,
        where=where,
        when=when,
        says=says,
    )
