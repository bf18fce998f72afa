"""No room on the disk, before and during a run: it says so, harms nothing, and goes on once there is room."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import drawn
import pytest
from bench import problem, slug

SETTINGS = drawn.REPRESENTATIVE
SLUGS = {"disk-full", "cannot-write", "disk-failed", "not-writable"}
FOREVER = 1 << 40


def failing(case, whole, numbers, until, code):
    """Let operations fail from each of these on; what went wrong, by the operation."""
    wrong, failed = {}, 0
    for number in numbers:
        one = case(SETTINGS)
        ending = one.run(fail_from=number, fail_until=until(number), fail_errno=code)
        failed += ending.result.rc != 0
        if ending.result.rc and slug(ending.result.err) not in SLUGS:
            wrong[number] = ending.result.err[-800:]
        elif found := problem(one, one.run(), whole(SETTINGS)):
            wrong[number] = f"afterwards: {found}"
    return failed, wrong


@pytest.fixture(scope="module")
def count(bench):
    """How many operations a whole run makes."""
    return bench.case("room", SETTINGS).run().control.count


def test_full_from_some_operation_on(case, whole, count):
    """Where the room ends the run stops with a disk error; with room again it ends bit-identical."""
    failed, wrong = failing(case, whole, range(9, count, 200), lambda n: FOREVER, errno.ENOSPC)
    assert failed > 1
    assert wrong == {}


def test_one_failing_operation(case, whole, count):
    """One operation that the disk refuses once is told, or made good; the bits are the same."""
    numbers = range(20, count, 200)
    failed, wrong = failing(case, whole, numbers, lambda n: n + 1, errno.EIO)
    assert failed > 0
    assert wrong == {}


def test_a_failed_background_write_is_told(case, whole):
    """One write of a background save that fails ends the run with a disk error, a little later."""
    file = "-0-turn-00000006/tensors.safetensors"
    logged, one = case(SETTINGS), case(SETTINGS)
    logged.run(log=True)
    kinds = [op.kind for op in logged.log() if op.path.endswith(file)]
    middle = kinds.index("write") + kinds.count("write") // 2
    ending = one.run(
        log=True, env={"FAULTS_ONLY": file},
        fail_from=middle, fail_until=middle + 1, fail_errno=errno.EIO,
    )  # fmt: skip
    failed = [(op.kind, op.path[-len(file) :]) for op in one.log() if op.error == errno.EIO]
    assert failed == [("write", file)]
    assert slug(ending.result.err) in SLUGS
    assert problem(one, one.run(), whole(SETTINGS)) == ""


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 6))]
)
def test_the_history_fails_once(case, whole, part):
    """A line of the history that the disk refuses once is there when the run has gone on."""
    logged = case(SETTINGS)
    logged.run(log=True)
    count = sum(op.path.endswith("metrics.jsonl") for op in logged.log())
    assert count > 15
    wrong = {}
    for number in [count // 4, count // 4 + 1] if part == 0 else range(part, count, 5):
        one = case(SETTINGS)
        ending = one.run(
            env={"FAULTS_ONLY": "metrics.jsonl"},
            fail_from=number, fail_until=number + 1, fail_errno=errno.EIO,
        )  # fmt: skip
        assert slug(ending.result.err) in SLUGS
        if found := problem(one, one.run(), whole(SETTINGS)):
            wrong[number] = found
    assert wrong == {}


WAYS = [(code, once) for once in (False, True) for code in (errno.ENOSPC, errno.EIO, errno.EDQUOT)]


@pytest.mark.long
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_every_operation_fails(case, whole, count, way):
    """The same for every operation, in turn in one of all ways to have no room."""
    code, once = WAYS[way]
    until = (lambda n: n + 1) if once else (lambda n: FOREVER)
    failed, wrong = failing(case, whole, range(way, count, len(WAYS)), until, code)
    assert failed > count // 24
    assert wrong == {}


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(size)``: a real file system of that size; skips where this user can't mount one."""
    place = tmp_path / "small"
    place.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("a small file system needs root")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def on(disk: Path, one):
    """Put a case's working folder on a disk."""
    one.work.rmdir()
    one.work.symlink_to(disk)
    return one


def test_too_small_a_disk(case, small_disk):
    """A disk that cannot hold two checkpoints is refused before the first turn, and left as it was."""
    disk = small_disk("80k")
    one = on(disk, case(SETTINGS))
    ending = one.run()
    assert slug(ending.result.err) == "disk-full"
    assert "MB needed" in ending.result.err
    assert ending.control.bodies == 0
    assert list(disk.rglob("*")) in ([], [disk / "runs"])


def test_a_disk_that_fills_up(case, whole, small_disk):
    """Somebody fills the disk during the run: a disk error; once that is gone, the same bits."""
    disk = small_disk("1m")
    one = on(disk, case(SETTINGS))

    def fill(control, now):
        if control.bodies >= 5 and not (disk / "other").exists():
            with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        return False

    ending = one.run(fill)
    assert slug(ending.result.err) == "disk-full", ending.result.err
    assert "MB needed" in ending.result.err
    (disk / "other").unlink()
    assert problem(one, one.run(), whole(SETTINGS)) == ""


@pytest.mark.parametrize("short_of", [5000, 100], ids=["in the middle", "in the last write"])
def test_a_file_size_limit(case, whole, short_of):
    """RLIMIT_FSIZE cuts a checkpoint short: a disk error; without the limit the same bits."""
    logged, one = case(SETTINGS), case(SETTINGS)
    logged.run(log=True)
    largest = max(
        op.offset + len(op.data) for op in logged.log() if op.path.endswith("tensors.safetensors")
    )
    ending = one.run(env={"FAULTS_FILE_SIZE": str(largest - short_of)})
    assert slug(ending.result.err) in SLUGS, ending.result.err
    assert not ending.killed
    assert problem(one, one.run(), whole(SETTINGS)) == ""


def test_what_was_there_is_not_harmed(case, whole):
    """A save that fails half-way leaves the checkpoints from before it as they were, byte for byte."""
    one, copy = case(SETTINGS), case(SETTINGS)
    one.run(kill_before=300)
    place = one.work / "runs" / "one" / "checkpoints"
    before = {path: path.read_bytes() for path in place.glob("loop-*/*")}
    assert len({path.parent for path in before}) >= 2
    shutil.copytree(one.work, copy.work, dirs_exist_ok=True)
    copy.run(log=True)
    writes = [
        op.number
        for op in copy.log()
        if op.kind == "write"
        and "/.tmp-loop" in op.path
        and op.path.endswith("tensors.safetensors")
    ]
    ending = one.run(fail_from=writes[20], fail_until=FOREVER, fail_errno=errno.ENOSPC)
    assert ending.result.rc != 0
    assert {path: path.read_bytes() for path in before} == before
    assert problem(one, one.run(), whole(SETTINGS)) == ""
