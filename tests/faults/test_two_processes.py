"""Two processes on one folder: one is refused, and a dead one's workers hold nothing."""

from __future__ import annotations

import os
import signal
import time

import drawn
import pytest
from bench import orphans, problem, slug

from loopwright.checkpoint import RunLock

WORKERS = {**drawn.REPRESENTATIVE, "workers": 2, "loader": "shuffled"}


def wait_until(true, seconds=30.0):
    """Wait until something is true; False when it never was."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_the_second_is_refused_while_the_first_lives(case, whole):
    """A second process is told who has the folder; the first goes on as if nothing had been."""
    one = case(drawn.REPRESENTATIVE)
    program, control = one.start()
    assert wait_until(lambda: control.bodies > 4)
    program.send_signal(signal.SIGSTOP)
    second = one.run()
    assert slug(second.result.err) == "run-folder-in-use"
    assert f"process {program.pid} " in second.result.err
    assert second.control.bodies == 0
    program.send_signal(signal.SIGCONT)
    assert program.wait(30).rc == 0
    assert problem(one, one.run(), whole(drawn.REPRESENTATIVE)) == ""


def test_a_refused_start_removes_nothing(case):
    """A process that finds a new folder taken leaves what the other has written there."""
    one = case(drawn.REPRESENTATIVE)
    folder = one.work / "runs" / "one"
    folder.mkdir(parents=True)
    with RunLock(folder):
        ending = one.run()
        assert slug(ending.result.err) == "run-folder-in-use"
        assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("attempt", range(3))
def test_two_at_the_same_moment(case, whole, attempt):
    """Of two that start together at most one trains, the other is refused or finds it done."""
    one = case({**drawn.REPRESENTATIVE, "seed": attempt})
    first, _ = one.start()
    second, _ = one.start(control="control-2")
    results = [first.wait(60), second.wait(60)]
    assert any(result.rc == 0 for result in results), [result.err for result in results]
    for result in results:
        assert result.rc == 0 or slug(result.err) == "run-folder-in-use", result.err
    assert problem(one, one.run(), whole({**drawn.REPRESENTATIVE, "seed": attempt})) == ""


def killed_with_workers(one):
    """Kill a program whose two workers are running, and leave them stopped."""
    program, control = one.start()
    assert wait_until(lambda: control.bodies > 9)
    workers = [pid for pid in orphans(program.pid) if pid != program.pid]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    program.send_signal(signal.SIGKILL)
    assert program.wait(30).rc == -signal.SIGKILL
    return program.pid, workers


def test_restart_at_once_with_workers_alive(case, whole):
    """The same command straight after a kill gets the folder, although forked workers still live."""
    one = case(WORKERS)
    pid, workers = killed_with_workers(one)
    try:
        ending = one.run()
        assert orphans(pid) == workers
        assert problem(one, ending, whole(WORKERS)) == ""
        assert ending.control.first_turn > 0
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)


def test_workers_end_by_themselves(case):
    """Workers of a killed program leave within half a minute: no child process stays behind."""
    one = case(WORKERS)
    pid, workers = killed_with_workers(one)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert wait_until(lambda: not orphans(pid))
