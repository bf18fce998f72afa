"""The page as text: complete, small, closed to what names may hold."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import pytest

from loopwright.events import Classification, EpochRow, PhaseTime, RunRecord, Series, Worst
from loopwright.report.html import asset, render

VOID = {"meta", "link", "img", "input", "br"}


class Tree(HTMLParser):
    """Checks that elements close in order; collects scripts, text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)


def parse(html):
    """The page's elements; every one must close."""
    tree = Tree()
    tree.feed(html)
    tree.close()
    assert tree.open == []
    return tree


@pytest.mark.parametrize("name", ["digits", "regression", "failed", "empty", "huge"])
def test_page_is_whole(samples, name):
    """Elements nest, the data is strict JSON, nothing refers outside, two scripts and no handler."""
    tree = parse(render(getattr(samples, name)()))
    assert len(tree.scripts) == 2
    json.loads(tree.scripts[0], parse_constant=pytest.fail)
    for tag, key, value in tree.attributes:
        assert not key.startswith("on"), (tag, key)
        if key in {"src", "href"}:
            assert value.startswith(("data:image/", "#")), value


def test_ordinary_page_is_small(samples):
    """An ordinary run's page stays below 400 kB, its script below 20 kB."""
    assert len(render(samples.digits()).encode()) < 400_000
    assert len(asset("report.js").encode()) <= 20_000


def test_long_runs_stay_small():
    """Five curves of 200,000 steps are thinned to a page that still mails."""
    turns = list(range(1, 200_001))
    series = {
        name: Series(name, turns, [math.sin(t / 900) + 2 for t in turns])
        for name in ("loss", "lr", "grad_norm", "loss_d", "loss_g")
    }
    assert len(render(RunRecord(name="long", series=series)).encode()) < 500_000


def test_says_what_a_run_came_to(samples):
    """Outcome, headline numbers, phases, checkpoints, command and settings stand on the page."""
    text = " ".join(" ".join(parse(render(samples.digits())).text).split())
    for words in (
        "Finished", "98.48 %", "best, epoch 8", "training loss", "2,924",
        "zero_grad", "step-540", "loopwright train digits --epochs 12 --lr 0.01",
        "checkpoint.every_minutes", "4be1c0ffee21", "14 March 2026, 09:26 UTC", "macro F1",
        "The last batch of an epoch has 5 samples", "GELU", "FLOPs a sample",
    ):  # fmt: skip
        assert words in text, words


def test_failed_run_shows_its_error(samples):
    """A failed run shows the error's text, its NaN, and no best value that it never had."""
    text = " ".join(parse(render(samples.failed())).text)
    assert "Failed" in text
    assert "hint: lower the learning rate" in text
    assert "NaN" in text
    assert "best, epoch" not in text


def test_empty_run_says_so(samples):
    """A run without a step says that nothing was recorded instead of showing empty charts."""
    html = render(samples.empty())
    assert "Nothing has been recorded yet" in html
    assert "<figure" not in html


def test_hostile_text_is_text(samples):
    """Markup in names is escaped wherever it stands, and pictures are pictures or nothing."""
    html = render(samples.huge(points=40, metrics=3))
    assert "<script>window" not in html
    assert "<img" not in html
    assert re.search(r"[\x00-\x08\u202e]", html) is None
    assert html.encode("utf-8")


def test_policy_lets_only_this_script_run(samples):
    """The content security policy names the script's hash and forbids every request."""
    html = render(samples.digits())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_odd_values_do_not_break_the_page():
    """Values of the wrong kind, ragged columns and matrices, and huge numbers are shown or left out."""
    record = RunRecord(
        name="odd",
        started="2026-13-99",
        settings={"a": None, "b": {}, "c": [], "d": object, "e": {"f": math.inf}},
        totals={"samples": math.nan, "updates": math.inf, "epochs": 0},
        series={
            "loss": Series("loss", [3, 1, 2, 2], [1e308, -1e308, None, "x", 5]),
            "lr": Series("lr", [1], [math.nan]),
            "lr/generator": Series("lr/generator", [1, 2], [0.1, 0.2]),
        },
        epochs=[
            EpochRow(0, math.nan, math.nan, {"valid_accuracy": None, "x": "y", "valid_f1": 1.2}),
            EpochRow(1, 7, -1, {"valid_accuracy": 0.5}, loop="fold"),
        ],
        best={"valid_accuracy": {}, "valid_f1": {"value": math.nan}},
        phases=[PhaseTime("forward", math.nan), PhaseTime("weird", 1e300), PhaseTime("new", 1.0)],
        classifications=[
            Classification("valid", ["only"], [[1, 2, 3], [4]], []),
            Classification("test", [], [], [Worst(0, "a", "b", 2.0, -1.0, "javascript:x", "")]),
        ],
    )
    text = " ".join(parse(render(record)).text)
    assert "fold" in text
    assert "new" in text


def test_several_loops_are_told_apart(samples):
    """The table of epochs names the loop when a run had several."""
    record = samples.regression()
    assert '<th scope="col">loop</th>' not in render(record)
    record.epochs[-1].loop = "second"
    assert '<th scope="col">loop</th>' in render(record)


def _luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(theme):
    """Text reaches 4.5:1 and curves 3:1 on every ground, in both themes (WCAG 2.2 AA)."""
    tokens = {
        name: (light, dark)[theme]
        for name, light, dark in re.findall(
            r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", asset("report.css")
        )
    }

    def contrast(a, b):
        high, low = sorted((_luminance(tokens[a]), _luminance(tokens[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("bg", "card", "well"):
        for ink in ("ink", "soft", "accent", "good", "bad", "warn"):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
    for i in range(10):
        assert contrast(f"s{i}", "card") >= 3, i
