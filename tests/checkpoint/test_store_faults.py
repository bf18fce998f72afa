"""Kills, power cuts, full disks, flipped bits, missing files, poison: nothing whole is ever lost."""

from __future__ import annotations

import errno
import os
import resource
import shutil

import pytest
import torch
from alike import alike

from faults import Disk, Killed, failing
from loopwright.checkpoint import DamagedCheckpoint, RunLock, Store, disk, verify
from loopwright.checkpoint.manifest import dump, read
from loopwright.errors import CheckpointError, DiskError, LoopwrightWarning

FILES = ("manifest.json", "state.json", "tensors.safetensors")


def state(turn: int) -> dict:
    """A small state that says which one it is."""
    return {"weights": torch.full((6,), float(turn)), "turn": turn, "name": "ä"}


def three(folder) -> Store:
    """A store that has pruned once: step-1 and step-2 are there."""
    store = Store(folder)
    for turn in range(3):
        store.save(state(turn), name=f"step-{turn}")
    return store


def operations(tmp_path, name: str) -> list[tuple[str, str]]:
    """The operations of one more save, in order."""
    three(tmp_path / "dry")
    with pytest.MonkeyPatch.context() as patch:
        watched = Disk(patch)
        Store(tmp_path / "dry").save(state(3), name=name)
        return watched.log


@pytest.mark.parametrize("lose", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize("name", ["step-3", "step-2"], ids=["new name", "same name"])
def test_a_kill_before_any_operation_leaves_a_sound_newest(tmp_path, name, lose):
    """Whatever operation of a save never happens, the next start loads the old newest or the new one."""
    count = len(operations(tmp_path, name))
    assert count >= 15
    seen = set()
    for number in range(count):
        folder = tmp_path / str(number)
        three(folder)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, kill_before=number, lose_unsynced=lose)
            with pytest.raises(Killed):
                Store(folder).save(state(3), name=name)
        with RunLock(folder) as lock, Store(folder, lock=lock) as store:
            loaded = store.read()
            assert loaded.notes == []
            assert alike(loaded.state, state(loaded.state["turn"]))
            seen.add(loaded.state["turn"])
            assert [entry for entry in os.listdir(folder) if entry[0] == "."] == [".lock"]
            assert len(store.names()) >= 2
            assert all(problems == [] for problems in store.verify().values())
            store.save(state(4), name="step-4")
            assert store.load()[0]["turn"] == 4
    assert seen == {2, 3}


def test_the_operations_of_a_save_are_in_the_promised_order(tmp_path):
    """Files are synced, the manifest last, before the rename; the older goes after the parent's sync."""
    log = operations(tmp_path, "step-3")
    order = [
        ("make_folder", ".tmp-step-3"),
        ("create", "state.json"),
        ("sync", "state.json"),
        ("create", "tensors.safetensors"),
        ("sync", "tensors.safetensors"),
        ("create", "manifest.json"),
        ("sync", "manifest.json"),
        ("sync_folder", ".tmp-step-3"),
        ("rename", ".tmp-step-3 -> step-3"),
        ("sync_folder", "dry"),
        ("rename", "step-1 -> .trash-step-1"),
        ("remove_folder", ".trash-step-1"),
    ]
    assert [entry for entry in log if entry[0] != "write"] == order


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    """Every byte of every file: a flip is named, the one before is loaded, and it is said."""
    store = three(tmp_path / "c")
    newest = store.folder / "step-2"
    for name in FILES:
        path = newest / name
        whole = path.read_bytes()
        for at in range(len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << (at % 8)
            path.write_bytes(flipped)
            loaded = store.read()
            assert loaded.name == "step-1", (name, at)
            assert "step-2" in loaded.notes[0]
        path.write_bytes(whole)
    assert store.read().name == "step-2"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["missing", "empty", "short", "long", "folder", "link", "pipe"])
def test_a_file_that_is_not_what_was_written_is_found(tmp_path, name, fault):
    """Truncated, missing, longer, replaced by something that is no file: found, without hanging."""
    store = three(tmp_path / "c")
    path = store.folder / "step-2" / name
    whole = path.read_bytes()
    path.unlink()
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "short":
        path.write_bytes(whole[:-1])
    elif fault == "long":
        path.write_bytes(whole + b"\0")
    elif fault == "folder":
        path.mkdir()
    elif fault == "link":
        (tmp_path / "outside").write_bytes(whole)
        path.symlink_to(tmp_path / "outside")
    elif fault == "pipe":
        os.mkfifo(path)
    with pytest.warns(LoopwrightWarning, match=r"'step-2' is damaged: .*going on from 'step-1'"):
        loaded, _ = store.load()
    assert loaded["turn"] == 1
    assert verify(store.folder / "step-2") != []


def test_a_damaged_one_that_was_asked_for_by_name_is_an_error(tmp_path):
    """Falling back is for the newest; a named checkpoint is loaded or refused."""
    store = three(tmp_path / "c")
    (store.folder / "step-2" / "state.json").write_text("{}")
    with pytest.raises(DamagedCheckpoint, match=r"state.json has 2 bytes"):
        store.load("step-2")


def test_all_damaged_is_refused(tmp_path):
    """With nothing sound left it never starts from zero by itself."""
    store = three(tmp_path / "c")
    for name in store.names():
        (store.folder / name / "manifest.json").unlink()
    assert store.names() == ["step-1", "step-2"]
    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged") as caught:
        store.load()
    assert caught.value.exit_code == 3


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path):
    """After a fall-back, retention keeps two that are sound."""
    store = three(tmp_path / "c")
    tensors = store.folder / "step-2" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    assert store.read().name == "step-1"
    store.save(state(3), name="step-3")
    assert store.names() == ["step-1", "step-2", "step-3"]
    store.save(state(4), name="step-4")
    assert store.names() == ["step-3", "step-4"]


def test_a_damaged_older_one_is_not_spoken_of(tmp_path):
    """A checkpoint without a manifest keeps its place in the order."""
    store = three(tmp_path / "c")
    (store.folder / "step-1" / "manifest.json").unlink()
    assert store.names() == ["step-1", "step-2"]
    assert store.read().notes == []


def test_a_damaged_checkpoint_is_replaced_by_the_same_name(tmp_path):
    """A run that goes on from the one before writes the damaged one anew."""
    store = three(tmp_path / "c")
    (store.folder / "step-2" / "manifest.json").unlink()
    assert store.read().name == "step-1"
    store.save(state(2), name="step-2")
    assert store.read().notes == []
    assert store.read().name == "step-2"


def test_a_newer_version_is_refused_and_not_fallen_back_from(tmp_path):
    """What a newer Loopwright wrote is not damage: an older state would be a silent loss."""
    store = three(tmp_path / "c")
    folder = store.folder / "step-2"
    made = read(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loopwright.checkpoint.manifest.WHOLE_VERSION", 3)
        (folder / "manifest.json").write_bytes(dump(made))
    with pytest.raises(CheckpointError, match="format version 3") as caught:
        store.load()
    assert caught.value.slug == "checkpoint-newer"


def test_a_checkpoint_folder_that_is_a_link_is_not_followed(tmp_path):
    """Nothing outside of the folder is read."""
    store = three(tmp_path / "c")
    shutil.move(store.folder / "step-2", tmp_path / "elsewhere")
    (store.folder / "step-2").symlink_to(tmp_path / "elsewhere")
    loaded = store.read()
    assert loaded.name == "step-1"
    assert "symbolic link" in loaded.notes[0]


def test_a_manifest_cannot_name_other_files(tmp_path):
    """A poisoned manifest with a sound hash still leads nowhere else."""
    store = three(tmp_path / "c")
    folder = store.folder / "step-2"
    made = read(folder)
    made.files["../../secret"] = made.files.pop("state.json")
    (folder / "manifest.json").write_bytes(dump(made))
    assert "does not list" in store.read().notes[0]


@pytest.mark.parametrize(
    "name", ["create", "write", "sync", "sync_folder", "rename", "make_folder"]
)
@pytest.mark.parametrize("background", [False, True], ids=["here", "background"])
def test_a_full_disk_harms_nothing(tmp_path, monkeypatch, name, background):
    """Wherever the room ends, the error names the MB, earlier checkpoints load, and a retry works."""
    store = three(tmp_path / "c")
    with monkeypatch.context() as patch:
        failing(patch, name, errno.ENOSPC)
        message = r"no room on the disk \(\S+ MB needed, \S+ MB free\)"
        with pytest.raises(DiskError, match=message) as caught:
            store.save(state(3), name="step-3", background=background)
            store.wait()
    assert caught.value.exit_code == 4
    if name != "sync_folder":
        assert store.names() == ["step-1", "step-2"]
    assert store.read().notes == []
    store.save(state(3), name="step-3")
    assert store.load()[0]["turn"] == 3


def test_a_background_failure_is_raised_once(tmp_path, monkeypatch):
    """The next call tells it; the call after that works."""
    store = three(tmp_path / "c")
    with monkeypatch.context() as patch:
        failing(patch, "write", errno.EIO)
        store.save(state(3), name="step-3", background=True)
        with pytest.raises(DiskError, match="cannot write checkpoint 'step-3'"):
            store.names()
    assert store.names() == ["step-1", "step-2"]
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2"]


def test_a_file_size_limit_harms_nothing(tmp_path):
    """The operating system's own limit ends the write; what was there stays."""
    store = three(tmp_path / "c")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DiskError, match="no room"):
            store.save({"w": torch.ones(10_000)}, name="big")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2"]


def test_too_little_room_is_known_before_a_byte_is_written(tmp_path, monkeypatch):
    """A save that cannot fit does not begin, and room_for says so before training does."""
    store = three(tmp_path / "c")
    monkeypatch.setattr(disk, "free_bytes", lambda path: 10)
    with pytest.raises(DiskError, match=r"0\.0 MB needed, 0\.0 MB free"):
        store.save(state(3), name="step-3")
    with pytest.raises(DiskError, match=r"5\.0 MB needed"):
        store.room_for(5_000_000)
    with pytest.raises(DiskError, match=r"10\.0 MB needed"):
        Store(tmp_path / "new").room_for(5_000_000)
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2"]


def test_no_permission_is_a_disk_error(tmp_path, monkeypatch):
    """A folder that may not be written is told before training and at a save, with exit code 4."""
    store = three(tmp_path / "c")
    failing(monkeypatch, "make_folder", errno.EACCES)
    with pytest.raises(DiskError, match="Permission denied") as caught:
        store.save(state(3), name="step-3")
    assert caught.value.slug == "not-writable"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DiskError, match="Permission denied"):
        store.room_for(1)


def test_a_file_where_the_folder_should_be_is_a_disk_error(tmp_path):
    """A store cannot live in a file, and does not remove it."""
    (tmp_path / "c").write_text("mine")
    for call in (
        lambda s: s.save(state(1), name="one"),
        lambda s: s.names(),
        lambda s: s.room_for(1),
    ):
        with pytest.raises(DiskError):
            call(Store(tmp_path / "c"))
    assert (tmp_path / "c").read_text() == "mine"


def test_only_the_owner_of_the_lock_cleans_up(tmp_path):
    """Another process's unfinished write is not touched by one that only looks."""
    store = three(tmp_path / "c")
    (store.folder / ".tmp-step-3").mkdir()
    Store(store.folder)
    assert (store.folder / ".tmp-step-3").exists()
    with RunLock(tmp_path) as lock:
        assert Store(store.folder, lock=lock).recovered == [
            "removed .tmp-step-3, an unfinished write"
        ]
    assert not (store.folder / ".tmp-step-3").exists()


def test_a_leftover_that_is_a_link_is_not_followed(tmp_path):
    """Cleaning up never deletes what a link points to."""
    store = three(tmp_path / "c")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (store.folder / ".tmp-x").symlink_to(tmp_path / "precious")
    with RunLock(tmp_path) as lock:
        Store(store.folder, lock=lock)
    assert (tmp_path / "precious" / "file").exists()
