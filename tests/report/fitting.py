"""Whether a page fits its window, asked in the browser."""

from __future__ import annotations

from typing import Any


def does_not_fit(page: Any) -> list[str]:
    """What is wider than its place: the page itself, or a number at its head."""
    found = page.evaluate(
        "[...document.querySelectorAll('.readouts b')]"
        ".filter(b => b.scrollWidth > b.clientWidth).map(b => b.innerText)"
    )
    beside = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return [*found, *([f"the page, by {beside} pixels"] if beside else [])]
