"""The warmed process behaves like ``python``: exit codes, output, signals, arguments, folders."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """\
import atexit, os, sys
import neighbour
atexit.register(lambda: print("at exit"))
print(__name__, sys.argv[1:], os.path.basename(os.getcwd()), neighbour.VALUE, sys.stdin.read())
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_same_as_python(run_program, tmp_path):
    """A program's exit code, output and own imports are those of ``python program.py``."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "neighbour.py").write_text("VALUE = 7\n")
    forked = run_program(["program.py", "3"], cwd=tmp_path, stdin="typed")
    plain = subprocess.run(
        [sys.executable, "program.py", "3"],
        cwd=tmp_path,
        input="typed",
        capture_output=True,
        text=True,
        check=False,
    )
    assert forked == (plain.returncode, plain.stdout, plain.stderr)
    assert forked.rc == 3


def test_uncaught_exception(run_program, tmp_path):
    """An uncaught exception ends with exit code 1 and a traceback on stderr."""
    rc, _, err = run_program(["-c", "raise ValueError('as it is')"], cwd=tmp_path)
    assert rc == 1
    assert err.endswith("ValueError: as it is\n")


def test_environment(run_program):
    """``env`` adds names and None removes them."""
    code = "import os; print(os.environ.get('ADDED'), os.environ.get('COLUMNS'))"
    assert run_program(["-c", code], env={"ADDED": "1", "COLUMNS": None}).out == "1 None\n"


def test_signal_and_two_at_once(start_program):
    """Two programs run at once; a signal reaches the one that it was sent to."""
    first = start_program(["-c", "import time; print('up', flush=True); time.sleep(60)"])
    second = start_program(["-c", "print('done')"])
    assert second.wait(30) == (0, "done\n", "")
    while first.out != "up\n":
        time.sleep(0.01)
    assert first.running()
    first.send_signal(signal.SIGTERM)
    assert first.wait(30).rc == -signal.SIGTERM


def test_time_limit(run_program):
    """A program that does not end is killed and reported with what it printed."""
    with pytest.raises(TimeoutError, match="waiting"):
        run_program(
            ["-c", "import time; print('waiting', flush=True); time.sleep(60)"], timeout=0.5
        )


def test_torch_is_warm(run_program):
    """Torch is imported already, with one thread."""
    code = "import sys; warm = 'torch' in sys.modules; import torch; print(warm, torch.get_num_threads())"
    assert run_program(["-c", code]).out == "True 1\n"


def test_many_ends_at_once(start_program, tmp_path):
    """Programs that end in the same moment are each reported, whichever is waited for first."""
    gate = tmp_path / "gate"
    code = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.001)"
    programs = [start_program(["-c", code, gate]) for _ in range(8)]
    gate.write_text("")
    time.sleep(2)
    assert [program.wait(30).rc for program in programs] == [0] * 8


def test_a_number_that_comes_again(start_program, program_server):
    """A program with the number of one that ended before is waited for, and has an exit code of its own."""
    before = dict(program_server.codes)
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    program_server.codes.update(dict.fromkeys(range(1, min(most, 1 << 22) + 1), 0))
    program = start_program(["-c", "import sys, time; time.sleep(0.3); sys.exit(3)"])
    try:
        assert program.wait(30).rc == 3
    finally:
        program_server.codes = before


PARENT = """\
import atexit, signal, subprocess, sys, warnings
atexit.register(lambda: print("the parent's end"))
signal.signal(signal.SIGINT, lambda *_: None)
sys.excepthook = print
print("not written yet")
code = subprocess.run([sys.executable, "program.py", "3"], check=False, env={"PYTHONPATH": "path"}).returncode
print("it ended with", code)
sys.exit(subprocess.run([sys.executable, "-c", "raise ValueError('as it is')"], check=False).returncode + 6)
"""
CHILD = """\
import os, signal, sys
print(sitecustomize.HERE, sys.path[1:2], os.environ.get("HOME"), signal.getsignal(signal.SIGINT).__name__)
"""
START = "import builtins, sys\nbuiltins.sitecustomize = sys.modules[__name__]\nHERE = 'begun'\n"


def test_warm_children(run_program, tmp_path):
    """What a program starts in turn may be a fork too: the same as a process of its own."""
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "program.py").write_text(
        PROGRAM.replace("import neighbour", CHILD + "import neighbour")
    )
    (tmp_path / "neighbour.py").write_text("VALUE = 7\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(START)
    true, warm = [
        run_program(["parent.py"], cwd=tmp_path, stdin="typed", warm_children=forks)
        for forks in (False, True)
    ]
    assert (true.rc, true.out) == (warm.rc, warm.out) == (7, warm.out)
    assert warm.err.startswith("to stderr\nTraceback")
    assert warm.err.endswith("ValueError: as it is\n")
    assert "begun" in warm.out
