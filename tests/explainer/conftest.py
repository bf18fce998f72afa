"""``explained(text)`` records a program; nothing stays observed after a test."""

from __future__ import annotations

import sys
import textwrap

import pytest

from explainer.recorded import record
from loopwright.observe.watch import Observer


@pytest.fixture
def explained(run_program, tmp_path):
    """``explained(text, **settings)`` is the narrated record of a program."""

    def run(text, name="train.py", **settings):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text) if text.startswith((" ", "\n")) else text)
        return record(run_program, path, tmp_path / f"{name}.json", **settings)

    return run


@pytest.fixture(autouse=True)
def nothing_is_observed():
    """Take out what a failed test left in."""
    before = sys.gettrace()
    yield
    if Observer.active is not None:
        Observer.active.uninstall()
    if sys.gettrace() is not before:
        sys.settrace(before)
