"""What a person sees while a run trains: a bar, one line an epoch, plain lines, a notebook's curves."""

from __future__ import annotations

import io
import math
import re
import sys
from types import SimpleNamespace

import pytest
from small import make, train, turn
from tqdm import tqdm

from loopwright.events import EpochRow
from loopwright.train import loop as loop_module
from loopwright.train.display import progress
from loopwright.train.display.progress import Progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal, and what would be left to see on it."""

    def isatty(self):
        return True

    def screen(self):
        """Return the lines, each with what was written over it."""
        lines = []
        for written in self.getvalue().split("\n"):
            cells = []
            for part in written.split("\r"):
                cells[: len(part)] = part
            lines.append("".join(cells).rstrip())
        while lines and not lines[-1]:
            lines.pop()
        return lines


@pytest.fixture
def on_terminal(monkeypatch):
    """Give a function that puts a terminal, 100 columns wide, in stderr's place.

    To be called in the test: pytest's own stderr comes back between a fixture and its test.
    """

    def put():
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return put


@pytest.fixture
def clock(monkeypatch):
    """Give a clock that stands still until it is set."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_the_bar(on_terminal):
    """It shows the epoch, how far it is, the loss, metrics, samples per second, and the time left."""
    terminal = on_terminal()
    bar = Progress(shown=True, epochs=12)
    bar.epoch(2, total=40)
    assert terminal.screen()[-1].startswith("epoch  3/12   0%|")
    bar.show(10, {"loss": 0.51234, "accuracy": math.nan, "samples_per_s": 12345.6})
    line = terminal.screen()[-1]
    assert line.startswith("epoch  3/12  25%|")
    assert "| 10/40 [" in line
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", line)
    assert "loss 0.5123 accuracy NaN 12,346 samples/s" in line
    bar.close()
    assert terminal.screen() == []


def test_the_bar_of_unknown_length(on_terminal):
    """Where nobody knows how many batches come, their number is shown, and their speed."""
    terminal = on_terminal()
    bar = Progress(shown=True, epochs=None)
    bar.epoch(0, total=None)
    bar.show(7, {"loss": 1.0})
    line = terminal.screen()[-1]
    assert line.startswith("epoch 1: 7batch [")
    assert "loss 1.0000" in line


def test_one_line_an_epoch_stays(on_terminal):
    """After the loop the screen holds the epochs' losses, validation and time, and no bar."""
    terminal = on_terminal()
    run = make(progress=True)
    for step in run.loop([one_batch()] * 5, epochs=2):
        turn(run, step)
        if step.ends_epoch:
            step.log(valid_accuracy=0.75)
    assert len(terminal.screen()) == 2
    for epoch, line in enumerate(terminal.screen(), start=1):
        assert re.fullmatch(
            rf"epoch {epoch}/2  train_loss \d\.\d{{4}}  valid_accuracy 0\.7500  (\d+ ms|\d+\.\d s)",
            line,
        )
    assert "5/5 [" in terminal.getvalue()


def test_the_bar_is_throttled(on_terminal, monkeypatch):
    """While the clock stands still a loop of 300 turns is drawn at its epoch's ends and not between."""
    on_terminal()
    monkeypatch.setattr(loop_module, "perf_counter", lambda: 0.0)
    shown = []
    monkeypatch.setattr(Progress, "show", lambda self, done, values: shown.append(done))
    train(make(progress=True), [one_batch()] * 150, epochs=2)
    assert shown == [150, 150]


def test_plain_lines_without_a_terminal(monkeypatch, clock):
    """In a file or a pipe there is a line every 30 seconds and one an epoch, and nothing is overwritten."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    lines = Progress(shown=True, epochs=2)
    lines.epoch(0, total=900)
    for _ in range(61):
        clock.seconds += 1.0
        lines.show(round(clock.seconds), {"loss": 0.25, "samples_per_s": 800.0})
    lines.epoch_line(EpochRow(0, 900, 3700.0, {"train_loss": math.nan}, "train"))
    assert sys.stderr.getvalue().splitlines() == [
        "epoch 1/2  131 batches  loss 0.2500  800 samples/s",
        "epoch 1/2  train_loss NaN  1:01:40",
    ]


def test_a_bar_of_the_users(on_terminal):
    """``tqdm(run.loop(...))`` is the only bar; the epochs' lines stay."""
    terminal = on_terminal()
    run = make(progress=True)
    for step in tqdm(run.loop([one_batch()] * 5, epochs=2), file=terminal, mininterval=0):
        turn(run, step)
    first, second, bar = terminal.screen()
    assert first.startswith("epoch 1/2  train_loss")
    assert second.startswith("epoch 2/2  train_loss")
    assert bar.startswith("100%|")
    assert not re.search(r"epoch 1/2 +\d+%", terminal.getvalue())


def test_nothing(on_terminal):
    """``progress=False`` writes nothing."""
    terminal = on_terminal()
    train(make(progress=False))
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("shell", ["ZMQInteractiveShell", "TerminalInteractiveShell", None])
def test_in_a_notebook(monkeypatch, shell):
    """A notebook's stderr is no terminal and still gets a bar; a plain IPython is asked like python."""
    active = None if shell is None else type(shell, (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: active))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Progress(shown=True, epochs=1)
    bar.epoch(0, total=4)
    bar.show(2, {"loss": 1.0})
    assert ("50%" in sys.stderr.getvalue()) == (shell == "ZMQInteractiveShell")
    bar.close()


def test_a_notebook_shows_a_run_as_its_curves():
    """The last expression of a cell, ``run`` or ``run.history``, is drawn; before a turn it says so."""
    run = make(name="first <try>")
    assert "no curves yet" in run._repr_html_()
    for step in run.loop([one_batch()] * 5, epochs=2):
        turn(run, step)
        step.log(accuracy=0.5)
    for shown in (run._repr_html_(), run.history._repr_html_()):
        assert "Loss" in shown
        assert "Accuracy" in shown
        assert shown.count("<svg") == 4  # loss, accuracy, learning rate, gradient norm
        assert "<script" not in shown
    assert "first &lt;try&gt;: finished" in run._repr_html_()


def one_batch():
    """Four samples of the small regression."""
    from small import dataset

    return dataset(4)[:]


def test_a_plain_number():
    """Numbers have a few digits, and what is none is named."""
    values = [0.0, 1e-5, 0.12345, 12.345, 123456.0, 1e9, math.inf, -math.nan]
    words = ["0.0000", "1.00e-05", "0.1235", "12.3", "123,456", "1.00e+09", "inf", "NaN"]
    assert [progress.number(value) for value in values] == words


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.029, "29 ms"), (0.5, "0.5 s"), (99.94, "99.9 s"), (3725, "1:02:05")]
)
def test_durations(seconds, text):
    """An epoch of a few milliseconds has a duration, too."""
    assert progress._time(seconds) == text


def test_whose_learning_rate(on_terminal):
    """Where groups have rates of their own, the one that is shown says whose it is."""
    terminal = on_terminal()
    bar = Progress(shown=True, epochs=1, lr_of="head")
    bar.epoch(0, total=4)
    bar.show(1, {"lr": 0.1})
    assert "lr 0.1000 (head)]" in terminal.screen()[-1]
    bar.close()
