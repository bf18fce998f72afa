"""The same faults under ``loopwright train``: the weights' bytes, the exit codes, the last line."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

RECIPE = Path(__file__).parent / "programs" / "recipe.py"
WORDS = ("train", str(RECIPE), "--out", "run", "--checkpoint-every", "3")


@pytest.fixture(scope="module")
def finished(bench):
    """The run that nobody disturbed."""
    one = bench.command("cli-whole", *WORDS)
    ending = one.run()
    assert ending.result.rc == 0, ending.result.err
    return one.work / "run", ending.control.count


@pytest.fixture
def command(bench, request):
    """``command()``: a new folder in which the command can be called again and again."""
    made = []

    def new():
        made.append(bench.command(f"{request.node.name[:30]}-{len(made)}", *WORDS))
        return made[-1]

    yield new
    for one in made:
        shutil.rmtree(one.folder, ignore_errors=True)


def weights(run):
    """The bytes of the files that people take away from a run."""
    return {name: (run / name).read_bytes() for name in ("final.safetensors", "best.safetensors")}


def everything(folder):
    """The content of every file, the lock's left out."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_killed(command, finished):
    """Killed before some operations of the folder, more at its end, the command ends with the same files."""
    run, count = finished
    for number in (*range(1, count - 60, 100), *range(count - 60, count, 12)):
        one = command()
        assert one.run(kill_before=number).killed
        ending = one.run()
        assert ending.result.rc == 0, ending.result.err
        assert weights(one.work / "run") == weights(run), number


def test_finished_again(command, finished):
    """A finished command again says so, runs no turn, and leaves every weight and checkpoint as it is."""
    one = command()
    shutil.copytree(finished[0], one.work / "run")
    before = everything(one.work / "run")
    ending = one.run()
    assert ending.result.rc == 0
    assert "had ended after 24 turns; nothing to do" in ending.result.err
    after = everything(one.work / "run")
    assert {p: c for p, c in after.items() if p.suffix == ".safetensors"} == {
        p: c for p, c in before.items() if p.suffix == ".safetensors"
    }


def test_all_damaged(command):
    """With no sound checkpoint left it is refused with 3, never begun again, and nothing is touched."""
    one = command()
    one.run(kill_before=260)
    manifests = list((one.work / "run").glob("checkpoints/loop-*/manifest.json"))
    assert len(manifests) >= 2
    for path in manifests:
        path.write_bytes(path.read_bytes()[:-2])
    before = everything(one.work / "run")
    ending = one.run()
    assert ending.result.rc == 3
    error, hint = ending.result.err.splitlines()[-2:]
    assert error.startswith("error: all 2 checkpoints are damaged: ")
    assert hint.startswith("hint: ")
    # What the kill left half-written may be cleaned up; nothing else may be touched.
    assert everything(one.work / "run") == {
        path: content for path, content in before.items() if "/.tmp-" not in str(path)
    }


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 999}', b'{"format": 1}', b"\x00" * 100, None]
)
def test_run_json(command, content):
    """Without a readable run.json it is refused with its exit code and one line, and harms nothing."""
    one = command()
    one.run(kill_before=260)
    path = one.work / "run" / "run.json"
    path.unlink() if content is None else path.write_bytes(content)
    before = everything(one.work / "run")
    ending = one.run()
    assert ending.result.rc in (2, 3)
    assert "Traceback" not in ending.result.err
    assert "error: " in ending.result.err
    assert everything(one.work / "run") == before


def test_full_disk(command, finished):
    """No room during a run is exit code 4; with room again the files are the same."""
    run, count = finished
    for number in range(90, count - 60, 140):
        one = command()
        ending = one.run(fail_from=number, fail_until=1 << 40, fail_errno=errno.ENOSPC)
        assert ending.result.rc == 4, ending.result.err
        error, hint = ending.result.err.splitlines()[-2:]
        assert error.startswith("error: cannot ")
        assert "no room on the disk" in error
        assert hint.startswith("hint: ")
        assert one.run().result.rc == 0
        assert weights(one.work / "run") == weights(run), number
