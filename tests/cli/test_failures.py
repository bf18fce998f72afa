"""What is printed when something fails, and the exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import pytest

from forked import SOURCE
from loopwright import errors
from loopwright.cli.failures import failure, show, show_exit


def raised(error: BaseException) -> BaseException:
    """Raise from a line that is neither the user's nor the library's."""
    scope: dict = {}
    exec(compile("def go(error):\n    raise error\n", "<nowhere>", "exec"), scope)
    try:
        scope["go"](error)
    except BaseException as caught:
        caught.__traceback__ = caught.__traceback__.tb_next
        return caught


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("a", slug="s"), 2),
        (errors.StateError("a", slug="s"), 1),
        (errors.DataError("a", slug="s"), 1),
        (errors.NonFiniteError("a", slug="s"), 1),
        (errors.CheckpointError("a", slug="s"), 3),
        (errors.DiskError("a", slug="s"), 4),
        (KeyboardInterrupt(), 130),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 4),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 4),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), 4),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 4),
        (RuntimeError("inside"), 1),
    ],
)
def test_exit_codes(error, code, capsys):
    """Each kind of error has its exit code, and the last line on stderr is the error or its hint."""
    assert show(raised(error)) == code
    lines = capsys.readouterr().err.splitlines()
    if lines[-1].startswith("hint: "):
        lines.pop()
    assert lines[-1].startswith("error: ")


def test_form(capsys):
    """``error: what (where)``, then the hint, each on one line."""
    error = errors.UsageError("two\n  rows\n  of it", slug="s", where="a.py:3", hint="write\nthis")
    show(raised(error))
    assert capsys.readouterr().err == "  rows\n  of it\nerror: two (a.py:3)\nhint: write this\n"


def test_colours(capsys, monkeypatch):
    """Colours only where they are shown; NO_COLOR wins."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(raised(errors.UsageError("a", slug="s")))
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    show(raised(errors.UsageError("a", slug="s")))
    assert "\x1b[" not in capsys.readouterr().err


def of_program(tmp_path, body: str) -> BaseException:
    """Import a user's file whose ``go()`` fails, and return what it raised."""
    import importlib.util

    path = tmp_path / "theirs.py"
    path.write_text(textwrap.dedent(body))
    spec = importlib.util.spec_from_file_location("theirs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.go()
    except BaseException as error:
        error.__traceback__ = error.__traceback__.tb_next
        return error


def test_users_exception(tmp_path, monkeypatch):
    """Type and traceback of the user's exception stay, down to their last line and not below it."""
    monkeypatch.chdir(tmp_path)
    error = of_program(
        tmp_path,
        """\
        import torch

        def go():
            inner()

        def inner():
            torch.nn.Linear(3, 4)(torch.zeros(2, 5))
        """,
    )
    found = failure(error)
    assert found.code == 1
    assert found.where == "theirs.py:7"
    assert found.what.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    shown = "\n".join(found.before)
    assert "in go" in shown
    assert "in inner" in shown
    assert "site-packages" not in shown


def test_notes_and_causes(tmp_path):
    """Notes (the step, the epoch) are shown, and so is what the exception was raised from."""
    error = of_program(
        tmp_path,
        """\
        def go():
            try:
                {}["key"]
            except KeyError as error:
                raise ValueError("no such class") from error
        """,
    )
    error.add_note("in step 3 of epoch 1")
    shown = "\n".join(failure(error).before)
    assert "KeyError: 'key'" in shown
    assert "which was the cause of:" in shown
    assert shown.endswith("in step 3 of epoch 1")


def test_exception_of_a_worker(tmp_path):
    """An exception in a DataLoader's worker, which arrives as text, is told at the user's line."""
    error = of_program(
        tmp_path,
        """\
        from torch.utils.data import DataLoader

        class Data:
            def __len__(self):
                return 4

            def __getitem__(self, index):
                raise ValueError(f"sample {index} is broken")

        def go():
            raise next(iter(DataLoader(Data(), num_workers=1, batch_size=2)))
        """,
    )
    found = failure(error)
    assert found.code == 1
    assert "sample 0 is broken" in found.what
    error.__traceback__ = None
    found = failure(error)
    assert found.what == "ValueError: sample 0 is broken"
    assert found.where.endswith("theirs.py:8")


def test_library_error_at_the_users_line(tmp_path):
    """An error of the library that names no place is told at the user's line."""
    error = of_program(
        tmp_path,
        """\
        import loopwright as lw

        def go():
            lw.seed(-1)
        """,
    )
    found = failure(error)
    assert found.code == 2
    assert found.where.endswith("theirs.py:4")


def test_exit_in_the_users_code(tmp_path, capsys):
    """``sys.exit(0)`` in the user's code is not a success."""
    end = of_program(tmp_path, "import sys\n\ndef go():\n    sys.exit(0)\n")
    assert show_exit(end) == 1
    assert "error: sys.exit(0) was called (" in capsys.readouterr().err


def test_sigterm(capsys):
    """The end by SIGTERM is told, with its exit code."""
    assert show_exit(raised(SystemExit(143))) == 143
    assert capsys.readouterr().err == "error: ended by SIGTERM (signal 15)\n"
    assert show_exit(raised(SystemExit(0))) == 0


def test_traceback_flag(run_cli, tmp_path):
    """--traceback shows the library's lines, and the error still stands last."""
    short = run_cli("train", "nothing", cwd=tmp_path)
    assert short.rc == 2
    assert "Traceback" not in short.err
    whole = run_cli("train", "nothing", "--traceback", cwd=tmp_path)
    assert whole.rc == 2
    assert "loopwright/cli/main.py" in whole.err
    assert whole.err.endswith(short.err)


def test_closed_output():
    """A reader that goes away is one error, not a traceback at Python's shutdown."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "loopwright", "recipes"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 4
    assert done.stderr == "error: the output was closed before it was written (stdout)\n"
