"""torchrun's agent with real processes: restarts, signals, a silent rank; one cause, nobody left."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

RECIPE = """
import os, pathlib, signal, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import loopwright as lw

RANK = int(os.environ.get("RANK", 0))
HERE = pathlib.Path(__file__).parent

@lw.recipe
def faulty(how: str = "", at: int = 3, who: int = 1, lr: float = 0.1):
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(24, 4, generator=draw), torch.randint(0, 2, (24,), generator=draw)
    (HERE / f"pid-{RANK}").write_text(str(os.getpid()))
    turns = [0]
    def compute_loss(model, batch):
        turns[0] += 1
        if RANK == who and turns[0] == at and not (HERE / "done").exists():
            (HERE / "done").touch()
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "raise":
                raise RuntimeError("mine")
            if how == "sleep":
                time.sleep(600)  # <- here
        a, b = batch
        return nn.functional.cross_entropy(model(a), b)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    return lw.Job(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=lr),
                  criterion=None, compute_loss=compute_loss,
                  train_loader=DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True), epochs=3)
"""


def start(start_program, tmp_path, *words, processes=2, **env):
    """Start ``loopwright train recipe.py`` in several processes."""
    (tmp_path / "recipe.py").write_text(RECIPE)
    return start_program(
        ["-m", "loopwright", "train", "recipe.py", "--out", "run", "--nproc", str(processes),
         "--no-check", "--checkpoint-every", "2", *words],
        cwd=tmp_path, env={"OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip


def alive(tmp_path) -> list[int]:
    """Ranks that are still there."""
    pids = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and not _zombie(pid)]


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def weights(tmp_path):
    """The final weights' bytes."""
    return (tmp_path / "run" / "final.safetensors").read_bytes()


@pytest.mark.long
def test_restarts_go_on(start_program, tmp_path):
    """A rank that is killed is started again with the others, and the weights are those of a whole run."""
    (tmp_path / "whole").mkdir()
    end = start(start_program, tmp_path / "whole").wait(100)
    assert end.rc == 0, end.err
    end = start(start_program, tmp_path, "--how", "kill", "--max-restarts", "1").wait(100)
    assert end.rc == 0, end.err
    assert "resumed at turn 2" in end.err
    assert weights(tmp_path) == weights(tmp_path / "whole")
    assert alive(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize(("how", "code", "told"), [
    ("kill", 137, "rank 1 of 2 was ended by SIGKILL"),
    ("raise", 1, "error: RuntimeError: mine (recipe.py:"),
])  # fmt: skip
def test_one_cause_is_shown(start_program, tmp_path, how, code, told):
    """The first failure decides the exit code, and only its rank shows an error."""
    end = start(start_program, tmp_path, "--how", how).wait(100)
    assert end.rc == code, end.err
    assert told in end.err
    assert end.err.count("error:") == (how == "raise")
    assert end.err.count("Traceback") == (how == "raise")
    assert alive(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("whom", ["agent", "rank"])
def test_sigterm(start_program, tmp_path, whom):
    """SIGTERM to the agent or to one rank saves on all, ends with 143, and the same command goes on."""
    program = start(start_program, tmp_path, "--epochs", "100000")
    until(lambda: (tmp_path / "run" / "checkpoints").is_dir(), program)
    time.sleep(0.5)
    pid = program.pid if whom == "agent" else int((tmp_path / "pid-1").read_text())
    os.kill(pid, signal.SIGTERM)
    end = program.wait(60)
    assert end.rc == 143, end.err
    assert alive(tmp_path) == []
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["kind"] == "interrupted"


@pytest.mark.long
def test_the_agent_is_killed(start_program, tmp_path):
    """SIGKILL to the agent leaves no rank behind: they save and end by themselves."""
    program = start(start_program, tmp_path, "--epochs", "100000")
    until(lambda: (tmp_path / "run" / "checkpoints").is_dir(), program)
    time.sleep(0.5)
    os.kill(program.pid, signal.SIGKILL)
    program.wait(60)
    began = time.monotonic()
    while alive(tmp_path) and time.monotonic() - began < 60:
        time.sleep(0.2)
    assert alive(tmp_path) == []
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["kind"] == "interrupted"


@pytest.mark.long
def test_slurms_warning(start_program, tmp_path):
    """SIGUSR1 to the agent, as SLURM sends before the time is up, saves on all ranks as SIGTERM does."""
    program = start(start_program, tmp_path, "--epochs", "100000", SLURM_JOB_ID="7")
    until(lambda: (tmp_path / "run" / "checkpoints").is_dir(), program)
    time.sleep(0.5)
    os.kill(program.pid, signal.SIGUSR1)
    end = program.wait(60)
    assert end.rc == 128 + signal.SIGUSR1, end.err
    assert alive(tmp_path) == []
    outcome = json.loads((tmp_path / "run" / "outcome.json").read_text())["outcome"]
    assert outcome["kind"] == "interrupted"


@pytest.mark.long
def test_a_silent_rank_is_named(ranks):
    """A rank that does not come to the next message is named with its line and turn, within the limit."""
    program = SILENT
    started = ranks.start(program, 2)
    began = time.monotonic()
    end = started[0].wait(60)
    assert time.monotonic() - began < 60
    assert end.rc == 1
    assert "rank-silent" in end.err
    line = next(i for i, text in enumerate((ranks.folder / "program.py").read_text().splitlines(), 1)
                if text.endswith("# <- here"))  # fmt: skip
    assert f"rank 1 stands at program.py:{line} in turn 3" in end.err
    os.kill(started[1].pid, signal.SIGKILL)
    started[1].wait(30)


SILENT = """
import time
model = nn.Linear(2, 1)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False,
             parallel={"strategy": "ddp", "timeout_s": 8})
for step in run.loop([torch.ones(2, 2)] * 20, epochs=1):
    if RANK == 1 and step.index == 2:
        time.sleep(100)  # <- here
    step.backward(run.model(step.batch).mean())
    step.update()
"""


@pytest.mark.long
def test_a_missing_rank_is_named(ranks):
    """A rank that never comes is named by the others."""
    program = (
        "model = nn.Linear(2, 1)\nif RANK == 1: sys.exit(7)\n"
        "lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),"
        " parallel={'strategy': 'ddp', 'timeout_s': 5})\n"
    )
    ended = [one.wait(60) for one in ranks.start(program, 2)]
    assert [one.rc for one in ended] == [1, 7]
    assert "rank 1 of 2 has not come to 127.0.0.1:" in ended[0].err
    assert "[rank-missing]" in ended[0].err


def until(true, program, seconds: float = 60.0) -> None:
    """Wait until something is true, while the program runs."""
    end = time.monotonic() + seconds
    while not true():
        assert program.running(), program.err
        assert time.monotonic() < end, program.err
        time.sleep(0.1)
