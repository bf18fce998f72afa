"""The same command on a run that has ended: it says so and changes nothing; a longer one goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forked import SOURCE

RECIPE = '''\
import torch
import loopwright as lw
from loopwright.recipes.digits import load_digits


@lw.recipe
def everything(stop: bool = False) -> lw.Job:
    """Keep the best, an average, test data, curves and a last word."""
    pixels, labels = load_digits()
    data = torch.utils.data.TensorDataset(pixels[:256], labels[:256])
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, num_workers={workers})
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Dropout(0.2), torch.nn.Linear(32, 10))

    def stopping(run):
        run.on("epoch_end", lambda event: run.stop("enough") if stop else None)

    return lw.Job(
        model=model,
        optimizer=torch.optim.Adam(model.parameters()),
        scheduler=lw.warmup_cosine(),
        criterion=torch.nn.CrossEntropyLoss(),
        train_loader=loader,
        valid_loader=loader,
        test_loader=loader,
        metrics=["accuracy"],
        classes=[str(digit) for digit in range(10)],
        keep_best=("valid_accuracy", "max"),
        ema=0.9,
        callbacks=[stopping],
        finish=lambda run: "the last word",
        epochs=2,
    )
'''
WORDS = ["train", "mine.py", "--out", "run"]


def everything(folder: Path) -> dict[str, tuple]:
    """What is in a folder, itself included, and when each was changed, to the nanosecond."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        about = path.lstat()
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = (
            about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_mode, content
        )  # fmt: skip
    return found


def test_everything_sees_a_touch(tmp_path):
    """Control: a file that is opened for writing and closed is seen."""
    (tmp_path / ".lock").write_text("")
    before = everything(tmp_path)
    with (tmp_path / ".lock").open("r+") as file:
        file.truncate(0)
    os.utime(tmp_path / ".lock")
    assert everything(tmp_path) != before


@pytest.fixture(scope="module")
def finished(program_server, tmp_path_factory):
    """A folder with the recipe and its finished run."""
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mine.py").write_text(RECIPE.replace("{workers}", "0"))
    words = ["-m", "loopwright", *WORDS, "--log", "tensorboard", "--profile", "2:3"]
    rc, _, err = program_server.start(words, cwd=folder).wait()
    assert rc == 0, err
    return folder


@pytest.mark.parametrize(
    "more",
    [[], ["--quiet"], ["--log", "tensorboard", "--profile", "2:3"], ["--resume", "always"]],
    ids=" ".join,
)
def test_the_same_command_again(run_cli, finished, more):
    """It ends with 0 and changes no byte, time or inode of the folder, with best, EMA and test data."""
    before = everything(finished / "run")
    assert {"best.safetensors", "raw.safetensors", "tensorboard", "trace-2-3.json"} <= before.keys()
    rc, out, err = run_cli(*WORDS, *more, cwd=finished)
    assert rc == 0, err
    assert everything(finished / "run") == before
    if "--quiet" in more:
        assert (out, err) == ("", "")
        return
    assert out.splitlines()[0] == (
        "run had finished before (2 epochs): nothing was trained or changed; more --epochs go on from "
        "its end"
    )
    assert "test accuracy" in out
    assert "Epoch" not in err


def test_without_a_lock_file(run_cli, finished, tmp_path):
    """A copy that lost the hidden lock file is left as it is, too."""
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy/run/.lock").unlink()
    before = everything(tmp_path / "copy/run")
    rc, _, err = run_cli(*WORDS, cwd=tmp_path / "copy")
    assert rc == 0, err
    assert everything(tmp_path / "copy/run") == before


def test_stopped_early(run_cli, tmp_path):
    """A run that ended itself (early stopping) is finished as well."""
    (tmp_path / "mine.py").write_text(RECIPE.replace("{workers}", "0"))
    assert run_cli(*WORDS, "--stop", cwd=tmp_path).rc == 0
    before = everything(tmp_path / "run")
    rc, out, err = run_cli(*WORDS, "--stop", cwd=tmp_path)
    assert rc == 0, err
    assert out.startswith("run had stopped before (enough): nothing was trained or changed")
    assert everything(tmp_path / "run") == before


def test_longer(run_cli, finished, tmp_path):
    """More epochs go on from the end, and then the same longer command changes nothing either."""
    shutil.copytree(finished, tmp_path / "copy")
    rc, out, err = run_cli(*WORDS, "--epochs", "3", cwd=tmp_path / "copy")
    assert rc == 0, err
    assert "resumed at turn 16 (epoch 3)" in err
    outcome = json.loads((tmp_path / "copy/run/outcome.json").read_text())
    assert outcome["totals"]["epochs"] == 3
    assert outcome["totals"]["turns"] == 24
    before = everything(tmp_path / "copy/run")
    rc, out, _ = run_cli(*WORDS, "--epochs", "3", cwd=tmp_path / "copy")
    assert rc == 0
    assert "nothing was trained or changed" in out
    assert everything(tmp_path / "copy/run") == before


def test_shorter(run_cli, finished):
    """Fewer epochs than were trained are refused: the weights are not those of one epoch."""
    before = everything(finished / "run")
    rc, _, err = run_cli(*WORDS, "--epochs", "1", cwd=finished)
    assert rc == 3, err
    assert everything(finished / "run") == before


def test_refused_second_process_while_asking(run_cli, start_program, finished, tmp_path):
    """A process that extends the run keeps others out, although the folder said that it had ended."""
    shutil.copytree(finished, tmp_path / "copy")
    code = (
        "import sys, time; from loopwright.checkpoint import RunLock\n"
        "lock = RunLock('run', quiet=True); print('held', flush=True); time.sleep(60)"
    )
    holder = start_program(["-c", code], cwd=tmp_path / "copy")
    while "held" not in holder.out:
        assert holder.running(), holder.err
    rc, _, err = run_cli(*WORDS, cwd=tmp_path / "copy")
    assert rc == 3
    assert f"in use by process {holder.pid}" in err
    os.kill(holder.pid, 9)
    holder.wait()


WATCHED = '''\
import atexit
import sys
from pathlib import Path

import torch
import loopwright as lw


def note(word):
    with Path("noted").open("a") as file:
        file.write(word + "\\n")


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        note("sample")
        return torch.ones(4) * index, torch.ones(1)


def collate(samples):
    note("batch")
    return torch.utils.data.default_collate(samples)


class Watched(torch.nn.Linear):
    def forward(self, inputs):
        note("forward")
        return super().forward(inputs)


@lw.recipe
def watched() -> lw.Job:
    """Note what is done, and at the end which modules there are."""
    model = Watched(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer.register_step_pre_hook(lambda *_: note("step"))
    loader = torch.utils.data.DataLoader(Samples(), 8, num_workers=2, collate_fn=collate)
    atexit.register(lambda: Path("modules").write_text("\\n".join(sys.modules)))
    return lw.Job(
        model=model, optimizer=optimizer, criterion=torch.nn.MSELoss(), train_loader=loader,
        valid_loader=loader, keep_best=("valid_loss", "min"), epochs=1,
    )
'''
HEAVY = {
    "loopwright.explainer", "loopwright.parallel.launch", "matplotlib", "pandas", "scipy", "sklearn",
    "tensorboard", "torch._inductor.compile_fx", "torch.distributed.checkpoint", "torchvision",
}  # fmt: skip
"""Nothing of these is needed to say that a run has ended. (``torch._dynamo`` comes with any optimizer.)"""


def test_nothing_is_done(run_cli, tmp_path):
    """No batch is made, no model called, nothing stepped, and nothing heavy is imported."""
    (tmp_path / "mine.py").write_text(WATCHED)
    rc, _, err = run_cli(*WORDS, cwd=tmp_path)
    assert rc == 0, err
    assert {"sample", "batch", "forward", "step"} == set((tmp_path / "noted").read_text().split())
    (tmp_path / "noted").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "loopwright", *WORDS], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nothing was trained or changed" in done.stdout
    assert not (tmp_path / "noted").exists()
    names = set((tmp_path / "modules").read_text().split())
    assert {"torch", "loopwright.train.run"} <= names
    assert names & HEAVY == set()
