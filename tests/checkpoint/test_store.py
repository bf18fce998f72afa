"""Saving, loading, pruning and protecting checkpoints on a healthy disk."""

from __future__ import annotations

import json
import os
import threading

import pytest
import torch
from alike import alike

from loopwright.checkpoint import RunLock, Store, UnsupportedState, disk, size_of, verify
from loopwright.errors import CheckpointError, StateError, UsageError


def state(value: float, size: int = 4) -> dict:
    """A small state that says which one it is."""
    return {"weights": torch.full((size,), value), "turn": int(value)}


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with Store(tmp_path / "checkpoints") as made:
        yield made


@pytest.mark.parametrize("background", [False, True])
def test_what_was_saved_is_loaded(store, background):
    """A state and its meta come back equal, saved here or in the background."""
    meta = {"turn": 7, "loss": float("nan"), "reason": "end"}
    store.save(state(1), name="one", meta=meta, background=background)
    loaded, back = store.load()
    assert alike(loaded, state(1))
    assert alike(back, meta)
    assert alike(store.meta("one"), meta)


def test_an_unused_store_leaves_nothing_behind(tmp_path):
    """Opening, asking and closing creates no folder."""
    with Store(tmp_path / "a" / "checkpoints") as made:
        assert made.names() == []
        assert made.latest() is None
        made.room_for(1000)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_nothing_to_load(store):
    """Loading from an empty store is an error, not a fresh start."""
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        store.load()


def test_checkpoints_are_ordered_by_when_they_were_written(store):
    """The latest is the one written last, whatever its name; a name written again moves up."""
    store = Store(store.folder, keep=None)
    for name in ("b", "a", "c", "b"):
        store.save(state(1), name=name)
    assert store.names() == ["a", "c", "b"]
    assert store.latest() == "b"


def test_saving_under_the_same_name_replaces(store):
    """The newer state of a name is the one that is loaded, and no part of the older stays."""
    store.save(state(1), name="same")
    store.save(state(2), name="same")
    assert store.load()[0]["turn"] == 2
    assert sorted(os.listdir(store.folder)) == ["same"]


def test_the_newest_two_stay(store):
    """Older checkpoints go once newer ones are on the disk."""
    for turn in range(5):
        store.save(state(turn), name=f"step-{turn}", background=True)
    assert store.names() == ["step-3", "step-4"]
    assert sorted(os.listdir(store.folder)) == ["step-3", "step-4"]


def test_protected_ones_stay_also_in_a_later_process(store):
    """A protected checkpoint outlives retention, a new Store included, until it is unprotected."""
    store.save(state(0), name="best", protect=True)
    for turn in range(1, 4):
        store.save(state(turn), name=f"step-{turn}")
    store.close()
    again = Store(store.folder)
    assert again.protected == {"best"}
    again.save(state(4), name="step-4")
    assert again.names() == ["best", "step-3", "step-4"]
    again.unprotect("best")
    again.save(state(5), name="step-5")
    assert again.names() == ["step-4", "step-5"]


def test_protecting_what_is_not_there_is_an_error(store):
    """A mistyped name is not protected silently; the nearest name is given."""
    store.save(state(1), name="step-1")
    store.protect("step-1")
    with pytest.raises(CheckpointError, match="step-1"):
        store.protect("step-11")


def test_a_damaged_list_of_protected_names_protects_everything(store):
    """When it is not known which checkpoints matter, none is deleted."""
    for turn in range(2):
        store.save(state(turn), name=f"step-{turn}")
    (store.folder / "protected.json").write_text('{"protec')
    with pytest.warns(UserWarning, match="none of the 2 checkpoints there will be deleted"):
        again = Store(store.folder)
    for turn in range(2, 5):
        again.save(state(turn), name=f"step-{turn}")
    assert again.names() == ["step-0", "step-1", "step-3", "step-4"]


def test_fewer_than_two_cannot_be_kept(tmp_path):
    """keep=1 would leave nothing to fall back to."""
    with pytest.raises(UsageError, match="at least 2"):
        Store(tmp_path, keep=1)


def test_folders_of_others_are_left_alone(store):
    """A folder that is no checkpoint is neither listed nor deleted."""
    (store.folder / "notes").mkdir(parents=True)
    (store.folder / "notes" / "todo.txt").write_text("x")
    (store.folder / ".tmp-mine.txt").write_text("a file")
    for turn in range(4):
        store.save(state(turn), name=f"step-{turn}")
    store.close()
    with RunLock(store.folder) as lock:
        assert Store(store.folder, lock=lock).names() == ["step-2", "step-3"]
    assert (store.folder / "notes" / "todo.txt").exists()
    assert (store.folder / ".tmp-mine.txt").exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../up",
        "/etc",
        ".hidden",
        "a\\b",
        "nul\0",
        "ü",
        "x" * 101,
        "dot.",
        3,
        "a\n",
    ],
)
def test_a_name_cannot_lead_out_of_the_folder(store, name):
    """Names are plain folder names, when saving, loading and protecting."""
    for call in (
        lambda: store.save(state(1), name=name),
        lambda: store.load(name),
        lambda: store.protect(name),
    ):
        with pytest.raises(UsageError, match="cannot name a checkpoint"):
            call()


def test_a_missing_name_is_told_with_the_nearest(store):
    """Asking for a checkpoint that is not there names those that are."""
    store.save(state(1), name="step-10")
    with pytest.raises(CheckpointError) as caught:
        store.load("step-1O")
    assert "step-10" in str(caught.value)
    assert caught.value.exit_code == 3


def test_what_cannot_be_stored_is_refused_before_anything_is_written(store):
    """A bad value leaves no folder behind and the earlier checkpoint as it was."""
    with pytest.raises(UnsupportedState, match=r"state\['bad'\]"):
        store.save({"bad": object()}, name="one")
    assert not store.folder.exists()


def test_meta_is_small_and_has_no_tensors(store):
    """Meta is for listings; tensors and megabytes belong into the state."""
    for meta in ({"t": torch.ones(1)}, {"t": "x" * (2 << 20)}):
        with pytest.raises(UsageError, match="meta"):
            store.save(state(1), name="one", meta=meta)


def test_training_on_does_not_change_what_is_being_written(store, monkeypatch):
    """A background save holds the values at the call, whatever happens to the tensors meanwhile."""
    gate = threading.Event()
    real = disk.make_folder
    monkeypatch.setattr(disk, "make_folder", lambda folder: (gate.wait(30), real(folder)))
    live, kept = torch.ones(1000), [1, 2]
    store.save({"w": live, "l": kept, "v": live[::2]}, name="one", background=True)
    assert store.busy
    live.mul_(0)
    kept.append(3)
    gate.set()
    loaded, _ = store.load()
    assert alike(loaded, {"w": torch.ones(1000), "l": [1, 2], "v": torch.ones(500)})


def test_a_newer_save_waits_for_the_one_before(store, monkeypatch):
    """At most one write is in flight, so the buffers of the first are never overwritten."""
    gate = threading.Event()
    real = disk.make_folder
    monkeypatch.setattr(disk, "make_folder", lambda folder: (gate.wait(30), real(folder)))
    store.save(state(1), name="one", background=True)
    second = threading.Thread(target=lambda: store.save(state(2), name="two", background=True))
    second.start()
    assert second.is_alive()
    gate.set()
    second.join()
    assert store.load("one")[0]["turn"] == 1
    assert store.load("two")[0]["turn"] == 2


def test_the_buffers_are_reused(store):
    """A save of the same shapes takes no new memory; other shapes get their own."""
    store.save(state(1), name="one", background=True)
    before = {name: buffer.data_ptr() for name, buffer in store._snapshot._buffers.items()}
    store.save(state(2), name="two", background=True)
    assert {name: buffer.data_ptr() for name, buffer in store._snapshot._buffers.items()} == before
    store.save(state(3, size=9), name="three", background=True)
    assert store.load()[0]["weights"].shape == (9,)


def test_saving_under_inference_mode_does_not_spoil_later_saves(store):
    """A save inside inference_mode, then one outside: both hold, and what is loaded trains."""
    with torch.inference_mode():
        store.save(state(1), name="one", background=True)
        store.wait()
    store.save(state(2), name="two", background=True)
    with torch.inference_mode():
        loaded, _ = store.load()
    assert not loaded["weights"].is_inference()


def test_a_default_device_does_not_move_anything(store):
    """Buffers and loaded tensors are on the CPU whatever torch's default device is."""
    ones = torch.ones(3)
    with torch.device("meta"):
        store.save({"w": ones, "b": b"x" * 2000}, name="one", background=True)
        loaded, _ = store.load()
    assert alike(loaded, {"w": torch.ones(3), "b": b"x" * 2000})


def test_what_was_written_is_told_once(store):
    """written() names each completed checkpoint with its turn, reason and size."""
    store.save(
        state(1), name="one", meta={"turn": 40, "reason": "every 20 updates"}, background=True
    )
    store.wait()
    (row,) = store.written()
    assert (row.name, row.turn, row.reason) == ("one", 40, "every 20 updates")
    assert row.bytes > 16
    assert store.written() == []
    assert store.rows() == [row]


def test_the_size_of_a_checkpoint_is_known_beforehand(store):
    """size_of is at least what the files take, and not much more."""
    store.save(state(1, size=10_000), name="one")
    taken = sum(path.stat().st_size for path in (store.folder / "one").iterdir())
    assert taken <= size_of(state(1, size=10_000)) <= taken + 8192


def test_sound_checkpoints_verify(store):
    """verify() finds nothing wrong with what was just written."""
    store.save(state(1), name="one")
    assert store.verify() == {"one": []}
    assert verify(store.folder / "one") == []


def test_the_files_are_json_and_safetensors(store):
    """Other tools read the files: plain JSON, and tensors by the safetensors library."""
    from safetensors.torch import load_file

    store.save(state(3), name="one")
    folder = store.folder / "one"
    assert sorted(os.listdir(folder)) == ["manifest.json", "state.json", "tensors.safetensors"]
    assert json.loads((folder / "manifest.json").read_text())["version"] == 1
    assert json.loads((folder / "state.json").read_text())["tree"]["dict"]["turn"] == 3
    assert torch.equal(
        load_file(folder / "tensors.safetensors")["0 state.weights"], torch.full((4,), 3.0)
    )


def test_a_closed_store_says_so(store):
    """Saving after close() is a mistake in the program."""
    store.close()
    store.close()
    with pytest.raises(StateError, match="is closed"):
        store.save(state(1), name="one")


def test_a_lost_lock_stops_the_save(tmp_path):
    """A store whose lock was given up writes nothing."""
    with RunLock(tmp_path) as lock:
        made = Store(tmp_path / "checkpoints", lock=lock)
        made.save(state(1), name="one")
    with pytest.raises(CheckpointError, match="no longer owns"):
        made.save(state(2), name="two")
    assert made.names() == ["one"]


PROGRAM = """
import sys, torch
from loopwright.checkpoint import Store
store = Store(sys.argv[1])
store.save({"w": torch.ones(300_000)}, name="one", background=True)
"""


def test_a_program_that_ends_finishes_its_write(run_program, tmp_path):
    """The interpreter waits for the write that is in flight."""
    done = run_program(["-c", PROGRAM, tmp_path / "checkpoints"])
    assert done.rc == 0, done.err
    assert Store(tmp_path / "checkpoints").load()[0]["w"].shape == (300_000,)


CHILD = """
import os, sys, torch
from loopwright.checkpoint import Store
store = Store(sys.argv[1])
store.save({"w": torch.ones(3)}, name="one", background=True)
if os.fork() == 0:
    store.close()
    try:
        store.save({"w": torch.zeros(3)}, name="two")
    except Exception as error:
        print(error.slug, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_forked_child_cannot_save(run_program, tmp_path):
    """A DataLoader worker that inherits the store is told off, and closing it there does nothing."""
    done = run_program(["-c", CHILD, tmp_path / "checkpoints"])
    assert done.out.strip() == "store-in-child", done.err
    assert Store(tmp_path / "checkpoints").names() == ["one"]
