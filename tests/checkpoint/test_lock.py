"""One process per run folder: named, dying with its owner, not held by forked children."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from loopwright.checkpoint import LockedError, RunLock, SameProcess, posix
from loopwright.errors import CheckpointError, DiskError, LoopwrightWarning

HOLDER = """
import os, sys, time
from loopwright.checkpoint import RunLock
lock = RunLock(sys.argv[1])
child = os.fork()
if child == 0:
    print("child sees", lock.held, flush=True)
    lock.release()
    time.sleep(60)
    os._exit(0)
print("child is", child, flush=True)
time.sleep(60)
"""


def words(program, text: str) -> str:
    """Wait until a program has printed a line with ``text``; returns the rest of that line."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for line in program.out.splitlines(keepends=True):
            if line.startswith(text) and line.endswith("\n"):
                return line.removeprefix(text).strip()
        time.sleep(0.01)
    raise AssertionError(program.out + program.err)


@pytest.fixture
def holder(start_program, tmp_path):
    """Another process that holds the folder and has forked a child; and the child's pid."""
    program = start_program(["-c", HOLDER, tmp_path])
    child = int(words(program, "child is"))
    yield program, child
    for pid in (program.pid, child):
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)
    program.wait()


def test_a_second_process_is_refused_and_told_who_has_it(holder, tmp_path):
    """The refusal names the process, the host and since when, and leaves the holder its lock."""
    for _ in range(2):
        with pytest.raises(LockedError) as caught:
            RunLock(tmp_path)
        assert f"process {holder[0].pid} on {os.uname().nodename}, since 20" in caught.value.what
        assert caught.value.exit_code == 3


def test_a_killed_owner_has_let_go_although_its_child_lives(holder, tmp_path):
    """SIGKILL frees the folder at once; a forked worker that outlives its parent does not hold it."""
    program, child = holder
    words(program, "child sees")
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert os.path.exists(f"/proc/{child}")
    with RunLock(tmp_path) as lock:
        assert lock.held


def test_a_forked_child_does_not_hold_it_and_cannot_release_it(holder, tmp_path):
    """In a child the inherited object knows that it is not the owner."""
    program, _ = holder
    assert words(program, "child sees") == "False"
    with pytest.raises(LockedError):
        RunLock(tmp_path)


def test_the_same_process_is_told_apart(tmp_path):
    """A second lock of this process hands back the first one, so that its run can be closed."""
    owner = object()
    first = RunLock(tmp_path, owner=owner)
    with pytest.raises(SameProcess) as caught:
        RunLock(tmp_path / "." / "")
    assert caught.value.holder is first
    assert caught.value.holder.owner is owner
    first.release()
    with RunLock(tmp_path) as second:
        assert second.held
    assert not first.held


def test_releasing_twice_is_harmless(tmp_path):
    """release() gives the folder up once; a newer lock of the same process is not affected."""
    first = RunLock(tmp_path)
    first.release()
    with RunLock(tmp_path) as second:
        first.release()
        assert second.held
        with pytest.raises(SameProcess):
            RunLock(tmp_path)


def test_a_lock_that_some_code_dropped_is_taken_again(tmp_path, run_program):
    """Opening and closing the lock's file in this process gives the lock up; renew() takes it back."""
    code = "import sys; from loopwright.checkpoint import RunLock; RunLock(sys.argv[1])"
    with RunLock(tmp_path) as lock:
        (tmp_path / ".lock").read_bytes()
        lock.renew()
        assert "LockedError" in run_program(["-c", code, tmp_path]).err


def test_a_lock_that_another_process_took_meanwhile_is_lost(tmp_path, start_program):
    """renew() refuses to go on beside a process that has taken the folder."""
    with RunLock(tmp_path) as lock:
        (tmp_path / ".lock").read_bytes()
        program = start_program(["-c", HOLDER, tmp_path])
        child = int(words(program, "child is"))
        with pytest.raises(LockedError, match=f"process {program.pid}"):
            lock.renew()
        program.send_signal(signal.SIGKILL)
        program.wait()
        os.kill(child, signal.SIGKILL)


def test_a_released_lock_cannot_be_renewed(tmp_path):
    """A run whose folder was taken over by a newer one of this process is stopped."""
    lock = RunLock(tmp_path)
    lock.release()
    with pytest.raises(CheckpointError, match="no longer owns"):
        lock.renew()


def test_a_failed_lock_leaves_nothing_registered(tmp_path):
    """After a refusal the same process may try again."""
    with pytest.raises(DiskError):
        RunLock(tmp_path / "missing")
    (tmp_path / "missing").mkdir()
    with RunLock(tmp_path / "missing") as lock:
        assert lock.held


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    """Taking a lock never writes through a link."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "target")
    with pytest.raises(CheckpointError, match="symbolic link"):
        RunLock(tmp_path)
    assert (tmp_path / "target").read_text() == "precious"


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    """Where there are no locks the run goes on with a warning."""

    def no_locks(fd):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(posix, "try_lock", no_locks)
    with pytest.warns(LoopwrightWarning, match="has no locks"):
        lock = RunLock(tmp_path)
    assert lock.held
    lock.release()
