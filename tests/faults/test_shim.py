"""The shim itself: it sees every operation, stops the process where it was told to, and nothing else."""

from __future__ import annotations

import errno
import os

import drawn
import power
import pytest
import shim

LOADED = {**drawn.REPRESENTATIVE, "workers": 2, "checkpoint": "every step", "precision": "fp16"}


@pytest.mark.parametrize("settings", [drawn.REPRESENTATIVE, LOADED], ids=["plain", "workers"])
def test_the_log_holds_everything(case, settings):
    """Replaying the log of a run gives the very folder that it left: no operation goes unseen."""
    one = case(settings)
    ending = one.run(log=True)
    assert ending.result.rc == 0, ending.result.err
    disk = power.Disk(one.work)
    disk.apply(one.log())
    assert power.all_kept(disk) == power.read(one.work)
    assert len(power.read(one.work)) > 10


def test_the_log_of_a_second_process(case):
    """The log of a process that resumes begins with what is there."""
    one = case(drawn.REPRESENTATIVE)
    one.run(kill_before=250)
    before = power.Disk(one.work, one.work)
    assert one.run(log=True).result.rc == 0
    before.apply(one.log())
    assert power.all_kept(before) == power.read(one.work)


def test_killed_exactly_before_an_operation(case):
    """Everything before operation N has happened, and nothing from it on."""
    one, other = case(drawn.REPRESENTATIVE), case(drawn.REPRESENTATIVE)
    one.run(log=True, kill_before=200)
    ending = other.run(log=True, kill_before=260)
    assert ending.killed
    assert ending.control.count == 261
    assert [op.number for op in other.log()] == list(range(260))
    assert [op.number for op in one.log()] == list(range(200))


def test_a_torn_write(case):
    """The write that is torn writes half of its bytes, and the process is gone."""
    one = case(drawn.REPRESENTATIVE)
    one.run(log=True, kill_before=40)
    target = next(op for op in one.log() if op.kind == "write" and len(op.data) > 20)
    torn = case(drawn.REPRESENTATIVE)
    ending = torn.run(log=True, tear=target.number)
    assert ending.killed
    last = torn.log()[-1]
    assert (last.number, last.kind) == (target.number, "write")
    assert len(last.data) == len(target.data) // 2


def test_failing_operations(case):
    """Operations fail with the errno that was asked for, as long as was asked for."""
    one = case(drawn.REPRESENTATIVE)
    ending = one.run(log=True, fail_from=60, fail_until=63, fail_errno=errno.EIO)
    failed = [op.number for op in one.log() if op.error == errno.EIO]
    assert failed
    assert set(failed) <= {60, 61, 62}
    assert ending.result.rc != 0


def test_only_the_folder_is_watched(tmp_path, bench):
    """Files elsewhere, and everything that a forked child does, are not counted."""
    (tmp_path / "in").mkdir()
    control = shim.Control.new(tmp_path / "control")
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        f"sys.path.append({os.path.dirname(shim.__file__)!r})\n"
        "import shim\n"
        "from pathlib import Path\n"
        "assert shim.arm(Path('in'), Path('control'))\n"
        "Path('elsewhere').write_text('x')\n"
        "Path('in/../other').write_text('x')\n"
        "if os.fork() == 0:\n"
        "    Path('in/child').write_text('x')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os.mkdir('in/a')\n"
        "os.rmdir('in/../in/a')\n"
    )
    program = bench.server.start([tmp_path / "program.py"], cwd=tmp_path)
    assert program.wait(30) == (0, "", "")
    assert {kind: n for kind, n in control.counts.items() if n} == {"mkdir": 1, "rmdir": 1}


def test_nothing_happens_before_it_is_armed(tmp_path, bench):
    """A preloaded shim that nobody arms is not noticed."""
    code = "open('file', 'w').write('x'); print(open('file').read())"
    program = bench.server.start(["-c", code], cwd=tmp_path)
    assert program.wait(30) == (0, "x\n", "")
