"""``lw.explain(train)`` and ``%%explain``: in one's own process, with the same numbers."""

from __future__ import annotations

import linecache
import sys
from types import SimpleNamespace

import pytest
import torch

import loopwright as lw
from loopwright.observe.watch import Observer


def train(seed, scale=1.0):
    """A small training; its weights and losses."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        x = torch.randn(8, 4)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), scale * x.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()], torch.get_rng_state()


def test_the_same_numbers():
    """What the function returns is what it returns alone, and its losses are those on the page."""
    losses, weights, generator = train(3, 2.0)
    seen = lw.explain(train, 3, 2.0)
    assert seen.result[0] == losses
    assert all(torch.equal(a, b) for a, b in zip(seen.result[1], weights, strict=True))
    assert torch.equal(seen.result[2], generator)
    assert [one.losses[-1] for one in seen.record.steps] == losses[:3]
    assert seen.record.losses["0"] == losses


def test_what_it_shows(tmp_path):
    """Text, a page that is written, and a page in a frame."""
    seen = lw.explain(train, 0, steps=2)
    assert len(seen.record.steps) == 2
    assert "training loop in train()" in str(seen)
    assert "loss.backward()" in str(seen)
    assert repr(seen) == "<Explanation of train: 2 turns of training loop in train()>"
    page = seen.save(tmp_path / "page.html").read_text()
    assert page == seen.page()
    frame = seen._repr_html_()
    assert frame.startswith("<iframe")
    assert "&lt;!doctype html&gt;" in frame.lower()


def test_nothing_is_left():
    """No hook, no trace function, also on the frames that were running; an exception passes."""
    before = sys.gettrace()

    def failing():
        torch.nn.Linear(2, 1)(torch.ones(1, 2)).sum().backward()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lw.explain(failing)
    assert Observer.active is None
    assert sys.gettrace() is before
    assert sys._getframe().f_trace is None or before is not None


def test_not_inside_another():
    """One observation at a time."""
    with pytest.raises(RuntimeError, match="observed already"):
        lw.explain(lambda: lw.explain(train, 0))
    assert Observer.active is None


class Shell:
    """What the extension asks of a notebook's shell."""

    def __init__(self):
        self.magics = {}
        self.space = {"torch": torch}

    def register_magic_function(self, function, kind, name):
        self.magics[kind, name] = function

    def run_cell(self, cell):
        name = "<ipython-input-1>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        try:
            exec(compile(cell, name, "exec"), self.space)
        except ZeroDivisionError:
            return SimpleNamespace(success=False)
        return SimpleNamespace(success=True)


def test_a_cell():
    """``%%explain 2`` runs the cell in the notebook's own variables, and shows two steps of its loop."""
    shell = Shell()
    lw.load_ipython_extension(shell)
    explain = shell.magics["cell", "explain"]
    cell = """w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.5)
for _ in range(4):
    (w * w).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
"""
    seen = explain("2", cell)
    assert torch.equal(shell.space["w"].detach(), torch.zeros(3))
    assert cell in [one.text for one in seen.record.files]
    assert len(seen.record.steps) == 2
    assert explain("", "1 / 0") is None
