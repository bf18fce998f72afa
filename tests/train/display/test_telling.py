"""What a run says of itself: its folder, how it ended, what is saved; and errors with tables."""

from __future__ import annotations

import ast
import io
import os
import re
import signal
import sys

import pytest
import torch
from torch import nn

import loopwright as lw
from loopwright.errors import CheckpointError
from train.small import loader, make, network, train, turn


def test_the_beginning_and_the_end(tmp_path, capsys):
    """The folder, an epoch's line, the report; the second time that there is nothing to do."""
    with make(tmp_path / "run", progress=True) as run:
        train(run)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"new run in {tmp_path / 'run'}"
    assert lines[1].startswith("epoch 1/1  train_loss ")
    assert lines[2:] == [f"finished: 1 epoch; report: {tmp_path / 'run' / 'report.html'}"]
    with make(tmp_path / "run", progress=True) as again:
        assert train(again) == []
    assert capsys.readouterr().err == (
        f"{tmp_path / 'run'}: had ended after 6 turns; nothing to do "
        '(more epochs or steps extend it, resume="never" begins anew)\n'
    )


def test_a_run_that_stops_early_says_why(capsys):
    """Without a folder too; a loop that reaches its limit without a folder has nothing to add."""
    batches = loader()
    model = network()
    rest = torch.optim.SGD(model.parameters(), lr=0.0)
    lw.fit(
        model,
        rest,
        nn.MSELoss(),
        batches,
        batches,
        epochs=9,
        keep_best=("valid_loss", "min"),
        patience=2,
    )
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"stopped: valid_loss has not improved on [\d.]+ for 2 epochs", lines[-1])
    with make(progress=True) as run:
        train(run)
    assert "finished" not in capsys.readouterr().err


def test_ctrl_c_says_what_is_saved(tmp_path, capsys):
    """After the turn that was under way the folder holds its state, and a line says so."""
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "run", progress=True) as run:
        for step in run.loop(loader(), epochs=2):
            turn(run, step)
            if step.index == 3:
                os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"saved in {tmp_path / 'run'}: the state after turn 4; the same command goes on from there"
    )


def test_the_hint_of_a_refusal_is_enough(tmp_path):
    """The slug stands beside the message, not in its table; the names in the hint let the run go on."""
    with make(tmp_path / "run", clip=1.0) as run:
        train(run)
    changed = {"clip": 2.0, "accumulate": 2, "precision": "bf16"}
    with pytest.raises(CheckpointError) as caught:
        make(tmp_path / "run", **changed)
    first, *table, hint = str(caught.value).splitlines()
    assert first.endswith("holds a run with other settings  [another-run]")
    assert table[-1].split() == ["clip", "1.0", "2.0"]
    names = ast.literal_eval(re.search(r"allow_change=(\[.*?\])", hint)[1])
    make(tmp_path / "run", **changed, allow_change=names).close()


def logged(run, batches, *, until=None):
    """Log in each turn, and measure in the turns 2 and 4; returns the epoch's values."""
    for step in run.loop(batches, epochs=1):
        turn(run, step)
        step.log(each=step.index)
        if step.index in (1, 3):
            for _ in run.evaluate(batches):
                pass
            step.log(measured=10.0 * step.index, each=0.0)
        if step.index == until:
            raise KeyError
    return run.history.epochs[-1].values


def test_of_measurements_the_epoch_has_the_latest(tmp_path):
    """Values logged after evaluations inside an epoch are not averaged; other ones are; resumed too."""
    run = make()
    values = logged(run, loader())
    assert values["measured"] == 30.0
    assert values["each"] == pytest.approx(sum(range(6)) / 8)
    assert run.history.series["measured"].y == [10.0, 30.0]
    every = lw.Checkpoint(every_steps=1)
    with pytest.raises(KeyError), make(tmp_path / "run", checkpoint=every) as broken:
        logged(broken, loader(), until=4)
    with make(tmp_path / "run", checkpoint=every) as again:
        assert logged(again, loader()) == values


def test_a_line_stands_above_the_bar(monkeypatch, tmp_path):
    """What a run says in the middle of a loop begins where the bar was, and not behind it."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    run = make(tmp_path / "run", progress=True)
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            run.line("by the way")
    assert " \rby the way\n\repoch 1/1" in sys.stderr.getvalue()
