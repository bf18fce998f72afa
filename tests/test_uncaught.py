"""What plain Python prints of an exception that nobody caught: the user's lines, and not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import loopwright as lw
from forked import SOURCE
from loopwright import uncaught

PROGRAM = """import loopwright as lw


def train(loss):
    meter = lw.Mean()
    meter.update(loss)
    lw.load_weights(__file__, None)
"""


@pytest.fixture
def printed(monkeypatch, capsys):
    """What the hook prints of the exception that a program raises."""

    def run(code):
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        try:
            exec(compile(PROGRAM + code, "mine.py", "exec"), {"__file__": __file__})
        except BaseException as error:  # as at a program's end
            sys.excepthook(type(error), error, error.__traceback__.tb_next)
        return capsys.readouterr().err

    return run


def test_the_last_line_is_the_users(printed):
    """An error of ours ends at the line of the program that it speaks of, without its cause in our lines."""
    shown = printed("train(1.0)")
    assert 'File "mine.py", line 7, in train\n' in shown
    assert "loopwright/" not in shown.partition("CheckpointError")[0]
    assert "direct cause" not in shown


def test_everything_is_shown_when_asked_for(printed, monkeypatch):
    """LOOPWRIGHT_TRACEBACK shows our lines too."""
    monkeypatch.setenv("LOOPWRIGHT_TRACEBACK", "1")
    shown = printed("train(1.0)")
    assert "loopwright/" in shown.partition("CheckpointError")[0]
    assert "direct cause" in shown


def test_what_the_program_was_doing_stays(printed):
    """An exception of the program, while which the error came, is printed before it."""
    shown = printed("""
try:
    {}["x"]
except KeyError:
    train(1.0)
""")
    assert "KeyError: 'x'" in shown
    assert "During handling" in shown


def test_a_mistake_that_may_be_ours_keeps_our_lines(monkeypatch, capsys):
    """An exception of another kind, out of our own code, is shown as it is."""
    monkeypatch.setattr(sys, "excepthook", uncaught.hook)
    with pytest.raises(Exception) as caught:
        lw.Mean().update("a word")
    assert not isinstance(caught.value, lw.LoopwrightError)
    uncaught.hook(caught.type, caught.value, caught.value.__traceback__)
    assert "meters.py" in capsys.readouterr().err


def test_another_hook_is_left_alone(monkeypatch):
    """A hook of a debugger or of the program stays where it is."""

    def mine(*_):
        pass

    monkeypatch.setattr(sys, "excepthook", mine)
    uncaught.install()
    assert sys.excepthook is mine


def test_the_exception_keeps_everything(monkeypatch, capsys):
    """Printing changes nothing of the exception: debuggers see all of it afterwards."""
    with pytest.raises(lw.CheckpointError) as caught:
        lw.load_weights(__file__, None)
    error, trace, cause = caught.value, caught.value.__traceback__, caught.value.__cause__
    uncaught.hook(type(error), error, trace)
    assert "loopwright/" not in capsys.readouterr().err.partition("CheckpointError")[0]
    assert error.__traceback__ is trace
    assert error.__cause__ is cause is not None


def test_a_program_of_its_own(tmp_path):
    """Without any doing of the program, python prints it so, and the exit code is 1."""
    path = tmp_path / "mine.py"
    path.write_text("import loopwright as lw\nlw.Checkpoint(every_steps=0)\n")
    environment = os.environ | {"PYTHONPATH": SOURCE}
    found = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, env=environment, check=False
    )
    assert found.returncode == 1
    assert found.stderr.count("File ") == 1
    assert "[checkpoint-policy]" in found.stderr


def test_a_notebook(monkeypatch):
    """A notebook's shell draws it its own way, from a traceback without our lines."""
    drawn = []

    def draw(kind, error, trace, tb_offset):
        drawn.append((kind, uncaught.outside(trace) is not None, list(lines(trace)), tb_offset))
        return ["drawn"]

    def lines(trace):
        while trace is not None:
            yield trace.tb_frame.f_code.co_filename
            trace = trace.tb_next

    shell = SimpleNamespace(InteractiveTB=SimpleNamespace(structured_traceback=draw))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with pytest.raises(lw.CheckpointError) as caught:
        lw.load_weights(__file__, None)
    assert caught.value._render_traceback_() == ["drawn"]
    assert drawn == [(lw.CheckpointError, True, [__file__], 1)]
    monkeypatch.setenv("LOOPWRIGHT_TRACEBACK", "1")
    caught.value._render_traceback_()
    assert len(drawn[1][2]) > 1


def test_pythons_lines_between_ours_go():
    """What a future of ours goes through is nobody's line; what it ends in is shown."""
    ours = {}
    code = "def fail(_): raise KeyError('x')\ndef call(pool, work): pool.submit(work, '{').result()"
    exec(compile(code, f"{uncaught.OURS}made_up.py", "exec"), ours)
    with ThreadPoolExecutor(1) as pool:
        for work, last in ((ours["fail"], "test_uncaught.py"), (json.loads, "decoder.py")):
            with pytest.raises((KeyError, ValueError)) as caught:
                ours["call"](pool, work)
            trace = uncaught.outside(caught.value.__traceback__)
            shown = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
            assert os.path.basename(shown[-1]) == last
            assert any("concurrent" in name for name in shown) is (work is json.loads)
