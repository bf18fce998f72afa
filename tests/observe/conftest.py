"""Nothing stays observed after a test."""

from __future__ import annotations

import pytest

from loopwright.observe.watch import Observer


@pytest.fixture(autouse=True)
def nothing_is_observed():
    """Take out what a failed test left in."""
    yield
    if Observer.active is not None:
        Observer.active.uninstall()
