"""The sbatch script of the documentation, run by bash in an environment like SLURM's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"

TRAIN = """
import os, pathlib
import torch
from torch import nn
import loopwright as lw
torch.manual_seed(1)
model = nn.Linear(4, 2)
pathlib.Path(f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
run = lw.Run("runs/mine", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
for step in run.loop([torch.ones(2, 4)] * 8, epochs=20_000):
    step.backward(run.model(step.batch).square().mean())
    step.update()
    if os.path.exists("again") and step.ends_epoch:
        run.stop("enough")
run.close()
"""

COMMANDS = {
    "scontrol": """
if [ "$1" = show ]; then echo localhost; else echo "$*" >> requeued; fi
""",
    # One task a machine; this machine has two ranks, not eight.
    "srun": """
exec "$PYTHON" -m torch.distributed.run "${@:2:3}" 2 "${@:6}"
""",
}


def fenced(language: str) -> str:
    """Return the page's block in a language that begins its section on clusters."""
    section = DOCS.read_text().partition("## SLURM and Kubernetes")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_script_has_no_mistake_that_shellcheck_knows(tmp_path):
    """shellcheck (among the tools for development) finds nothing in the script; it does in another."""
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no shellcheck here")
    for script, mistakes in ((fenced("bash"), 0), ("#!/bin/bash\nsrun torchrun $1\n", 1)):
        (tmp_path / "job.sh").write_text(script)
        end = subprocess.run(
            [found, "job.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert end.returncode == mistakes, end.stdout


@pytest.mark.long
def test_the_script_is_requeued_once(tmp_path):
    """SLURM's warning saves and requeues; what ends by itself, or fails, is not requeued."""
    (tmp_path / "train.py").write_text(TRAIN)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    (tmp_path / "job.sh").write_text(fenced("bash").replace("29500", port))
    for name, body in COMMANDS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/bash" + body)
        path.chmod(0o755)
    around = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost",
    }  # fmt: skip
    job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=around, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not (tmp_path / "runs" / "mine" / "checkpoints").is_dir():
        assert job.poll() is None, job.stderr and job.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(0.5)
    rank = int((tmp_path / "pid-0").read_text())
    agent = int(Path(f"/proc/{rank}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(agent, signal.SIGUSR1)
    job.communicate(timeout=60)
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    (tmp_path / "again").touch()
    again = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=around, timeout=60, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    outcome = (tmp_path / "runs" / "mine" / "outcome.json").read_text()
    assert "enough" in outcome


def test_the_manifest():
    """The manifest is YAML of the fields that a TrainJob has, and its command is torchrun's."""
    job = yaml.safe_load(fenced("yaml"))
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["spec"].keys() == {"runtimeRef", "trainer"}
    assert job["spec"]["trainer"].keys() <= {
        "image", "command", "args", "env", "numNodes", "numProcPerNode", "resourcesPerNode",
    }  # fmt: skip
    assert job["spec"]["trainer"]["command"][0] == "torchrun"
