"""A model's weights as one safetensors file: readable by all, whole or not there, no pickle."""

from __future__ import annotations

import errno
import json
import math
import os

import pytest
import torch
from alike import alike
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from faults import failing
from loopwright.checkpoint import UnsupportedState, load_weights_file, save_weights
from loopwright.errors import CheckpointError, DiskError


def weights() -> dict[str, torch.Tensor]:
    """Tied, strided, empty, small and unusual ones."""
    shared = torch.randn(3, 2)
    return {
        "emb.weight": shared,
        "head.weight": shared,
        "conv": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "half": torch.randn(5).bfloat16(),
        "mask": torch.tensor([True, False]),
        "complex": torch.randn(3, dtype=torch.complex128),
    }


def test_weights_and_meta_come_back(tmp_path):
    """Every name comes back in order with its values; tied ones are one tensor again."""
    saved = weights()
    meta = {"turn": 3, "metric": math.inf, "model": "Net", "shape": (1, 2)}
    save_weights(tmp_path / "w.safetensors", saved, meta)
    back, back_meta = load_weights_file(tmp_path / "w.safetensors")
    assert alike(back, saved)
    assert back["emb.weight"] is back["head.weight"]
    assert alike(back_meta, meta)


def test_the_safetensors_library_reads_it(tmp_path):
    """Other tools see plain tensors and the metadata that they look for."""
    saved = weights()
    save_weights(tmp_path / "w.safetensors", saved)
    theirs = load_file(tmp_path / "w.safetensors")
    assert set(theirs) == set(saved) - {"head.weight"}
    for name in set(theirs) - {"complex"}:
        assert torch.equal(theirs[name], saved[name])
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_a_file_of_the_safetensors_library_is_read(tmp_path):
    """Plain third-party files load, with their metadata as it is; a link to one is followed."""
    tensors = {
        "a": torch.randn(2, 3),
        "b": torch.arange(5).to(torch.uint16),
        "c": torch.randn(2).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "w.safetensors", metadata={"author": "x"})
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "w.safetensors")
    for name in ("w.safetensors", "link.safetensors"):
        back, meta = load_weights_file(tmp_path / name)
        assert alike({key: back[key] for key in sorted(back)}, tensors)
        assert meta == {"author": "x"}


def test_loaded_weights_go_into_a_model(tmp_path):
    """What a model saved, a model loads: the same outputs."""
    model, other = (
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)) for _ in range(2)
    )
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    other.load_state_dict(load_weights_file(tmp_path / "w.safetensors")[0])
    inputs = torch.randn(5, 3)
    assert torch.equal(model(inputs), other(inputs))


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    """A full disk at any operation leaves the old weights and nothing else."""
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(2)})
    for name in ("create", "write", "sync", "rename"):
        with monkeypatch.context() as patch:
            failing(patch, name, errno.ENOSPC)
            with pytest.raises(DiskError, match="no room"):
                save_weights(path, {"a": torch.zeros(2)})
        assert torch.equal(load_weights_file(path)[0]["a"], torch.ones(2))
        assert os.listdir(tmp_path) == ["w.safetensors"]
    save_weights(path, {"a": torch.zeros(2)})
    assert torch.equal(load_weights_file(path)[0]["a"], torch.zeros(2))


def test_a_pipe_is_not_replaced(tmp_path):
    """What is there and no file (a device, a pipe) is refused: a rename would remove it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DiskError, match="it is there and no file"):
        save_weights(pipe, {"w": torch.ones(2)})
    assert pipe.is_fifo()


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    """A flip in the header or in the numbers never gives other weights silently."""
    path = tmp_path / "w.safetensors"
    saved = {"a": torch.arange(9.0), "b": torch.ones(2, dtype=torch.complex64)}
    save_weights(path, saved, {"turn": 1})
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 7)
        path.write_bytes(flipped)
        try:
            back, _ = load_weights_file(path)
        except CheckpointError:
            continue
        # Only a flip in the name of our own metadata makes it look like another tool's file.
        assert at < whole.index(b"sha256")
        assert torch.equal(back["a"], saved["a"])


def test_what_is_no_weight_is_refused_by_name(tmp_path):
    """A value that is no dense tensor, a name that cannot be, or tensors in meta: refused, no file."""
    path = tmp_path / "w.safetensors"
    with pytest.raises(UnsupportedState, match=r"state_dict\['a'\]: int"):
        save_weights(path, {"a": 3})
    with pytest.raises(UnsupportedState, match="sparse"):
        save_weights(path, {"a": torch.eye(2).to_sparse()})
    with pytest.raises(UnsupportedState, match="__metadata__"):
        save_weights(path, {"__metadata__": torch.ones(1)})
    with pytest.raises(UnsupportedState, match="meta"):
        save_weights(path, {"a": torch.ones(1)}, {"t": torch.ones(1)})
    assert os.listdir(tmp_path) == []


def header(fields: dict, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    body = json.dumps(fields).encode()
    return len(body).to_bytes(8, "little") + body + data


def entry(**changes) -> dict:
    """One sound tensor of 8 bytes, with changes."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


EIGHT = b"\0" * 8
BAD = {
    "empty": b"",
    "three bytes": b"abc",
    "a header of 2^63 bytes": (1 << 63).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (1000).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"\xff\xfe{}",
    "json that is a list": (2).to_bytes(8, "little") + b"[]",
    "json that nests too deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "an unknown dtype": header({"a": entry(dtype="OBJECT")}, EIGHT),
    "a negative shape": header({"a": entry(shape=[-2])}, EIGHT),
    "a shape that is no list": header({"a": entry(shape=2)}, EIGHT),
    "a huge shape of nothing": header({"a": entry(shape=[1 << 63, 0], data_offsets=[0, 0])}),
    "a shape that does not fit": header({"a": entry(shape=[3])}, EIGHT),
    "offsets beyond the end": header({"a": entry(data_offsets=[8, 16])}, EIGHT),
    "offsets before the start": header({"a": entry(data_offsets=[-8, 0])}, EIGHT),
    "overlapping tensors": header({"a": entry(), "b": entry()}, EIGHT),
    "bytes that belong to nobody": header({"a": entry()}, EIGHT * 2),
    "a tensor cut short": header({"a": entry()}, EIGHT[:-1]),
    "a name that stands twice": header({"a": entry()}, EIGHT).replace(b'{"a": ', b'{"a":1,"a":'),
    "metadata that is no text": header({"__metadata__": {"a": 1}}),
    "metadata of ours that lies": header({"__metadata__": {"loopwright": '{"sha256": 3}'}}),
    "metadata of ours without tensors": header(
        {"__metadata__": {"loopwright": json.dumps({"sha256": "0" * 64, "order": ["a"]})}}
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_error(tmp_path, name):
    """Absurd sizes, lies and rubbish end in one CheckpointError that names the file."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(BAD[name])
    with pytest.raises(CheckpointError) as caught:
        load_weights_file(path)
    assert caught.value.exit_code == 3
    assert caught.value.where == str(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_with_the_way_on(tmp_path, zipped):
    """A .pt file is never unpickled; the message gives the line that converts it."""
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="pickle") as caught:
        load_weights_file(tmp_path / "model.pt")
    assert "weights_only=True" in caught.value.hint


def test_what_is_no_file_is_said(tmp_path):
    """A missing file and a folder are told apart from a damaged one."""
    with pytest.raises(CheckpointError, match="no such file"):
        load_weights_file(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="not a file"):
        load_weights_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        load_weights_file(tmp_path / "pipe")
