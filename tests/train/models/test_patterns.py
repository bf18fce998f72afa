"""Patterns on names."""

from __future__ import annotations

import pytest

from loopwright.train.models.patterns import matches, unmatched


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("encoder", True),
        ("encoder.0", True),
        ("*", True),
        ("*.0.*", True),
        ("encoder.?.weight", True),
        ("encoder.0.weight", True),
        ("coder", False),
        ("encoder.0.w", False),
        ("Encoder", False),
    ],
)
def test_what_a_pattern_means(pattern, expected):
    """A pattern is a glob, a name, or a module's name; case counts."""
    assert matches("encoder.0.weight", pattern) is expected


def test_nearest_may_be_a_module():
    """A mistaken module gets the module's name as a hint; far from everything there is no hint."""
    names = ["backbone.stem.weight", "head.weight"]
    assert unmatched("backbon.stem", names, "parameter").hint == "did you mean 'backbone.stem'?"
    assert unmatched("zzz", names, "parameter").hint is None
    assert "there are 0." in unmatched("a", [], "parameter").what
