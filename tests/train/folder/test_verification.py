"""What ``verification`` says of a run's folder, whatever happened to it, and that a resume agrees."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
from small import loader, make, network, train

import loopwright as lw
from loopwright.checkpoint import Store, disk, lock, tensorfile, verify_weights
from loopwright.errors import CheckpointError, UsageError
from loopwright.train.folder.verification import verification


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with an average, best weights and three checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = make(folder, ema=0.9, checkpoint=lw.Checkpoint(every_steps=2, keep=3))
    for step in run.loop(loader(), epochs=1):
        x, y = step.batch
        step.backward(((run.model(x) - y) ** 2).mean())
        step.update()
        step.log(error=1.0)
        if step.ends_epoch:
            run.keep_best("error", mode="min")
    run.close()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to do harm to."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def states(found) -> dict[str, str]:
    return {part.name: part.state for part in found.parts}


def flip(path, byte: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 1 << bit
    path.write_bytes(raw)


def snapshot(folder) -> dict[str, tuple]:
    """Name, size, both times and content of everything in a folder, the folder included."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            about = os.lstat(path)
            content = b"" if os.path.isdir(path) else Path(path).read_bytes()
            found[path] = (about.st_mtime_ns, about.st_ctime_ns, about.st_size, content)
    return found


def test_sound(folder):
    """A run that ended has its checkpoints and weights proven by hashes, and nothing is touched."""
    before = snapshot(folder)
    found = verification(folder)
    assert snapshot(folder) == before
    assert not found.damaged
    assert states(found) == {
        "run.json": "readable",
        "outcome.json": "readable",
        "metrics.jsonl": "readable",
        "final.safetensors": "sound",
        "raw.safetensors": "sound",
        "best.safetensors": "sound",
        "checkpoints/loop-0-turn-00000002": "sound",
        "checkpoints/loop-0-turn-00000004": "sound",
        "checkpoints/loop-0-end": "sound",
        "checkpoints/protected.json": "readable",
    }
    assert found.resumes_from == "loop-0-end"
    assert found.resume.startswith("changes nothing, for the run has finished")
    assert found.in_use is None


HASHED = [
    "final.safetensors",
    "best.safetensors",
    "checkpoints/loop-0-end/manifest.json",
    "checkpoints/loop-0-end/state.json",
    "checkpoints/loop-0-end/tensors.safetensors",
]


@pytest.mark.parametrize("name", HASHED)
def test_one_flipped_bit(folder, name):
    """One flipped bit anywhere in a hashed file is found: in its first and last bytes, and all over it."""
    path = folder / name
    sound = path.read_bytes()
    shown = name.rpartition("/")[0] or name
    for byte in sorted({0, 7, 8, 9, len(sound) - 1, *range(0, len(sound), 97)}):
        flip(path, byte, bit=byte % 8)
        assert states(verification(folder))[shown] == "damaged", byte
        path.write_bytes(sound)
    assert not verification(folder).damaged


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("harm", ["cut", "empty", "longer", "gone", "link", "pickle", "pipe"])
def test_other_harm(folder, name, harm, tmp_path):
    """A hashed file that is cut off, empty, longer, gone, a link, a pickle or a pipe is damaged."""
    path = folder / name
    sound = path.read_bytes()
    path.unlink()
    if harm == "cut":
        path.write_bytes(sound[:-1])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "longer":
        path.write_bytes(sound + b"\0")
    elif harm == "link":
        (tmp_path / "elsewhere").write_bytes(sound)
        path.symlink_to(tmp_path / "elsewhere")
    elif harm == "pickle":
        path.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch harmed'\ntR.")
    elif harm == "pipe":
        os.mkfifo(path)
    found = verification(folder)
    shown = name.rpartition("/")[0] or name
    assert states(found)[shown] == "damaged"
    assert next(part.says for part in found.damaged)


def resumed_from(folder) -> str | None:
    """What a resume really takes; None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Store(folder / "checkpoints").read().name
        except CheckpointError:
            return None


NAMES = ["loop-0-turn-00000002", "loop-0-turn-00000004", "loop-0-end"]


@pytest.mark.parametrize("broken", range(8))
@pytest.mark.parametrize("harm", ["flip", "no manifest", "newer", "link"])
def test_what_a_resume_takes(folder, broken, harm):
    """``resumes_from`` is the checkpoint that a resume reads, for every set of broken ones."""
    for i, name in enumerate(NAMES):
        place = folder / "checkpoints" / name
        if not broken >> i & 1:
            continue
        if harm == "flip":
            flip(place / "tensors.safetensors", 100)
        elif harm == "no manifest":
            (place / "manifest.json").unlink()
        elif harm == "newer":
            make_newer(place / "manifest.json")
        else:
            place.rename(folder.parent / name)
            place.symlink_to(folder.parent / name)
    found = verification(folder)
    assert found.resumes_from == resumed_from(folder)
    damaged = [part for part in found.damaged if part.name.startswith("checkpoints/loop")]
    assert len(damaged) == broken.bit_count()
    if found.resumes_from is None:
        assert found.resume.startswith("would be refused")


def make_newer(path) -> None:
    """Give a manifest the next version of the format, with the hash that belongs to it."""
    import hashlib

    from loopwright.checkpoint.manifest import _spell

    body = json.loads(path.read_bytes())
    del body["sha256"]
    body["version"] = 3
    path.write_bytes(_spell({**body, "sha256": hashlib.sha256(_spell(body)).hexdigest()}))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("run.json", "", "it is empty"),
        ("run.json", "{", "not JSON at line 1"),
        ("run.json", "[]", "run.json is not one of ours"),
        ("run.json", '{"format": 1}', "lacks something"),
        ("run.json", '{"format": 99}', "newer version"),
        ("run.json", "[" * 100_000, "nested too deeply"),
        ("outcome.json", '{"outcome": 3}', "malformed"),
        ("outcome.json", "\xff", "not JSON"),
        ("metrics.jsonl", '{"kind": "steps"}\n', "1 line of 1 is not ours"),
        ("metrics.jsonl", 'x\n{"kind": "resumed", "turn": 1}\n', "1 line of 2 is not ours"),
        ("checkpoints/protected.json", '{"protected": ["../../x"]}', "not what was written"),
        ("checkpoints/protected.json", '{"protected": ["gone"]}', "it names gone"),
    ],
)
def test_files_without_hashes(folder, name, text, says):
    """What carries no hash is damaged when it cannot be read as what it is."""
    (folder / name).write_text(text)
    (part,) = verification(folder).damaged
    assert part.name == name
    assert says in part.says


def test_cut_off_by_a_crash(folder):
    """A line that a crash cut off anywhere is no damage: it is passed over."""
    path = folder / "metrics.jsonl"
    lines = path.read_text()
    last = lines.splitlines()[-1]
    for cut in range(2, len(last)):
        path.write_text(lines + last[:cut])
        assert not verification(folder).damaged, last[:cut]


def test_links_are_not_followed(folder, tmp_path):
    """A file or the whole of ``checkpoints`` that leads elsewhere is damaged, and is not read."""
    secret = tmp_path / "secret"
    secret.write_text('{"outcome": "secret"}')
    for name in ("run.json", "outcome.json", "evaluation.json", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)
    (folder / "checkpoints").rename(tmp_path / "checkpoints")
    (folder / "checkpoints").symlink_to(tmp_path / "checkpoints")
    found = verification(folder)
    assert [part.name for part in found.damaged] == [
        "run.json", "outcome.json", "evaluation.json", "metrics.jsonl", "checkpoints"
    ]  # fmt: skip
    assert "secret" not in repr(found.parts)
    assert found.resumes_from is None


def test_leftovers(folder):
    """An unfinished write is no damage, and stays."""
    (folder / "checkpoints" / ".tmp-loop-0-turn-00000006").mkdir()
    (folder / ".tmp-outcome.json").write_text("{")
    found = verification(folder)
    assert not found.damaged
    assert [part.name for part in found.parts if part.state == "passing"] == [
        ".tmp-outcome.json", "checkpoints/.tmp-loop-0-turn-00000006"
    ]  # fmt: skip
    assert (folder / ".tmp-outcome.json").exists()


def test_promised_weights(folder):
    """Weights that a finished run, or its best values, promise are missed."""
    (folder / "final.safetensors").unlink()
    (folder / "best.safetensors").unlink()
    (folder / "raw.safetensors").unlink()
    assert {part.name: part.says for part in verification(folder).damaged} == {
        "final.safetensors": "it is missing",
        "best.safetensors": "it is missing",
    }


def test_killed_early(tmp_path):
    """A folder in which nothing was saved yet is sound: the same command begins at the beginning."""
    run = make(tmp_path / "run")
    for _ in run.loop(loader(), epochs=1):
        break
    run.close()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "outcome.json").unlink()
    found = verification(tmp_path / "run")
    assert not found.damaged
    assert found.resume.startswith("begins at the beginning")


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "other"])
def test_not_a_run(tmp_path, what):
    """What is no folder, or has nothing of a run's, is a usage error."""
    place = tmp_path / "place"
    if what == "file":
        place.write_text("x")
    elif what != "nothing":
        place.mkdir()
    if what == "other":
        (place / "notes.txt").write_text("mine")
    with pytest.raises(UsageError):
        verification(place)


def test_no_memory_for_tensors(folder, monkeypatch):
    """No tensor is read into memory, and files are read in pieces."""
    monkeypatch.setattr(tensorfile, "read_tensors", None)
    monkeypatch.setattr("loopwright.checkpoint.disk.CHUNK", 64)
    assert not verification(folder).damaged
    data = folder / "final.safetensors"
    with monkeypatch.context() as patched:
        read, pieces = disk.HashedReader.read, []
        patched.setattr(
            disk.HashedReader, "read", lambda r, size: (pieces.append(size), read(r, size))[1]
        )
        assert verify_weights(data) == []
    header = 8 + int.from_bytes(data.read_bytes()[:8], "little")
    assert pieces[:3] == [8, header - 8, 64]
    assert set(pieces[2:]) == {64}


def test_own_lock_is_not_given_up(tmp_path, run_program):
    """A look at a folder that this process trains in leaves its lock held."""
    run = make(tmp_path / "run")
    train(run)
    assert verification(tmp_path / "run").in_use is None
    code = "import sys; from loopwright.checkpoint import RunLock; RunLock(sys.argv[1])"
    assert "run-folder-in-use" in run_program(["-c", code, tmp_path / "run"]).err
    run.close()
    assert run_program(["-c", code, tmp_path / "run"]).rc == 0


def test_holder_is_named(tmp_path, start_program):
    """Of a folder that another process trains in it is said which, and that process keeps its lock."""
    (tmp_path / "run").mkdir()
    code = (
        "import sys; from loopwright.checkpoint import RunLock; lock = RunLock(sys.argv[1])\n"
        "print('held', flush=True); sys.stdin.read(); import time; time.sleep(60)"
    )
    program = start_program(["-c", code, tmp_path / "run"])
    while "held" not in program.out:
        assert program.running(), program.err
    for _ in range(2):
        assert lock.holder_of(tmp_path / "run") == f"process {program.pid}"
    with pytest.raises(lock.LockedError):
        lock.RunLock(tmp_path / "run")
    program.send_signal(9)
    program.wait()
    assert lock.holder_of(tmp_path / "run") is None


@pytest.mark.parametrize("gone", ["before it was read", "while its size is asked"])
def test_a_replaced_checkpoint_is_looked_at_again(folder, monkeypatch, gone):
    """A checkpoint that a training run deletes or writes again meanwhile is not called damaged."""
    from loopwright.train.folder import verification as room

    place = folder / "checkpoints"
    aside = folder.parent / "aside"
    shutil.copytree(place / "loop-0-turn-00000004", aside)
    honest, seen = room.verify, []

    def while_it_changes(path):
        seen.append(path.name)
        if path.name == "loop-0-turn-00000002":
            if gone == "while its size is asked":
                return honest(path)
            shutil.rmtree(path)
        if path.name == "loop-0-turn-00000004" and seen.count(path.name) == 1:
            (path / "state.json").unlink()
            found = honest(path)
            shutil.rmtree(path)
            aside.rename(path)
            return found
        return honest(path)

    listed = Path.glob

    def as_it_vanishes(path, pattern):
        if path.name == "loop-0-turn-00000002" and path.exists():
            shutil.rmtree(path)
            raise FileNotFoundError(path)  # as a folder that is listed when it goes away
        return listed(path, pattern)

    monkeypatch.setattr(room, "verify", while_it_changes)
    monkeypatch.setattr(Path, "glob", as_it_vanishes)
    found = verification(folder)
    assert not found.damaged
    assert "checkpoints/loop-0-turn-00000002" not in states(found)
    assert seen.count("loop-0-turn-00000004") == 2


def test_damage_does_not_stop_a_resume(folder):
    """A run whose outcome and curves are damaged goes on from its checkpoint, and its report says so."""
    (folder / "outcome.json").write_text("{")
    (folder / "metrics.jsonl").write_text("x\n")
    run = make(folder, model=network(), ema=0.9, checkpoint=lw.Checkpoint(every_steps=2, keep=3))
    assert len(train(run, epochs=2)) == 6
    assert any("outcome.json could not be read" in note for note in run.notes)
    assert any("metrics.jsonl: line 1 could not be read" in note for note in run.notes)
    run.close()
