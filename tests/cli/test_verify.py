"""``loopwright verify``: its table, its JSON and its exit codes; also while a run trains in the folder."""

from __future__ import annotations

import json
import shutil

import pytest

RECIPE = """\
import time
import torch, loopwright as lw

@lw.recipe
def mine(wait: float = 0.0) -> lw.Job:
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Linear(64, 2))

    def loss(model, batch):
        time.sleep(wait)
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    return lw.Job(
        model=model,
        optimizer=torch.optim.Adam(model.parameters()),
        compute_loss=loss,
        train_loader=[(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))] * 10,
        epochs=8,
    )
"""


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained run, to do harm to."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def everything(folder) -> dict[str, tuple[int, int]]:
    """When each file and folder was last changed, in content and otherwise."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths}


def test_sound(run_cli, trained):
    """A whole run ends with 0 and a table of its parts; nothing in the folder is touched."""
    before = everything(trained)
    rc, out, err = run_cli("verify", trained)
    assert (rc, err) == (0, "")
    assert everything(trained) == before
    lines = out.splitlines()
    assert any(line.startswith("checkpoints/loop-0-end") and "sound" in line for line in lines)
    assert lines[-2].startswith("Sound: ")
    assert lines[-1].startswith("The same command changes nothing, for the run has finished")


def test_damaged(run_cli, copy):
    """A damaged checkpoint ends with 3, is named, and the one that a resume takes is named too."""
    tensors = copy / "checkpoints/loop-0-end/tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    before = everything(copy)
    rc, out, err = run_cli("verify", "run", cwd=copy.parent)
    assert rc == 3
    assert everything(copy) == before
    assert "damaged" in next(x for x in out.splitlines() if x.startswith("checkpoints/loop-0-end"))
    assert err.splitlines() == [
        "error: damaged: checkpoints/loop-0-end (run)",
        "hint: the same command goes on from loop-0-turn-00000000, passing over 1 damaged one",
    ]


def test_json(run_cli, copy):
    """--json is one object with every part; the exit code is the same."""
    rc, out, err = run_cli("verify", copy, "--json")
    assert (rc, err) == (0, "")
    said = json.loads(out)
    assert said["sound"] is True
    assert said["resumes_from"] == "loop-0-end"
    assert {part["state"] for part in said["parts"]} == {"sound", "readable"}
    (copy / "final.safetensors").unlink()
    rc, out, _ = run_cli("verify", copy, "--json")
    assert rc == 3
    (part,) = [part for part in json.loads(out)["parts"] if part["state"] == "damaged"]
    assert part == {
        "name": "final.safetensors", "state": "damaged", "bytes": 0, "says": "it is missing"
    }  # fmt: skip


def test_while_it_trains(start_program, run_cli, tmp_path):
    """A run that saves every turn is sound at any moment, and trains to its end undisturbed."""
    (tmp_path / "mine.py").write_text(RECIPE)
    words = ["train", "mine.py", "--out", "run", "--wait", "0.005", "--checkpoint-every", "1"]
    program = start_program(["-m", "loopwright", *words, "--quiet"], cwd=tmp_path)
    while not (tmp_path / "run/checkpoints/loop-0-turn-00000001").exists():
        assert program.running(), program.err
    looked = 0
    while program.running():
        rc, out, err = run_cli("verify", "run", "--json", cwd=tmp_path)
        assert rc == 0, out + err
        said = json.loads(out)
        if said["in_use"] is not None:
            looked += 1
            assert said["in_use"] == f"process {program.pid}"
            assert said["resume"].startswith("would be refused: process")
    assert looked
    assert program.wait() == (0, "", "")
    rc, out, _ = run_cli("verify", "run", cwd=tmp_path)
    assert rc == 0
    assert "changes nothing, for the run has finished" in out


def test_not_a_run(run_cli, tmp_path):
    """No folder, a file, or a folder of other things is a usage error."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    for word, said in (
        ("gone", "gone is not there"),
        ("file", "file is not a folder"),
        ("other", "other is not a run folder"),
    ):
        rc, _, err = run_cli("verify", word, cwd=tmp_path)
        assert rc == 2
        assert f"error: {said}" in err
