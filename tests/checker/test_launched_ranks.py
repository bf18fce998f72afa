"""Two real ranks, started by other people's launchers under check, and a fix that two ranks run."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.long
BIN = Path(sys.executable).parent
TRAIN = """\
import time
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
dist.init_process_group("gloo")
torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(256, 8)
data = TensorDataset(x, (x[:, 0] > 0).long())
loader = DataLoader(data, batch_size=32, sampler=DistributedSampler(data))
model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
print(f"{dist.get_rank()} of {dist.get_world_size()} ends\\n", end="")
dist.destroy_process_group()
time.sleep(0.1)  # threads of gloo's need Python's lock a moment longer, or abort a process that is ending
"""
ACCELERATE = """\
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
x = torch.randn(256, 8)
loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16, shuffle=True)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
net, optimizer, loader = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1), loader)
for epoch in range(3):
    for inputs, labels in loader:
        accelerator.backward(nn.functional.cross_entropy(net(inputs), labels))
        optimizer.step()
print(f"{accelerator.process_index} of {accelerator.num_processes} ends\\n", end="")
accelerator.end_training()
"""
LIGHTNING = """\
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(1)
pl.seed_everything(0)
x = torch.randn(256, 8)
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    def training_step(self, batch, index):
        probabilities = self.net(batch[0]).softmax(1)
        return nn.functional.cross_entropy(probabilities, batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", devices=2, strategy="ddp", logger=False,
                     enable_checkpointing=False, enable_progress_bar=False)
trainer.fit(Net(), DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16, shuffle=True))
print(f"{trainer.global_rank} of {trainer.world_size} ends\\n", end="")
"""
TRANSFORMERS = """\
import torch
from torch import nn
from transformers import Trainer, TrainingArguments
torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(256, 8)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    def forward(self, inputs, labels=None):
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits.softmax(1), labels), "logits": logits}
rows = [{"inputs": one, "labels": (one[0] > 0).long()} for one in x]
settings = TrainingArguments("out", max_steps=24, per_device_train_batch_size=8, use_cpu=True, report_to=[],
                             save_strategy="no", disable_tqdm=True, ddp_backend="gloo")
Trainer(Net(), settings, train_dataset=rows).train()
print(f"{settings.process_index} of {settings.world_size} ends\\n", end="")
torch.distributed.destroy_process_group()
"""
RANKS = ("--nproc-per-node", "2", "--standalone")


class Row(NamedTuple):
    """How two ranks are started, what they run, and the mistake in it."""

    words: tuple[str, ...]
    program: str
    rule: str
    line: str
    needs: str = "torch"


ROWS = {
    "-m torch.distributed.run": Row(
        ("-m", "torch.distributed.run", *RANKS, "train.py"),
        TRAIN, "ddp-missing-set-epoch", "in loader:",
    ),
    "-- torchrun": Row(
        ("--", "torchrun", *RANKS, "train.py"), TRAIN, "ddp-missing-set-epoch", "in loader:"
    ),
    "-- accelerate launch": Row(
        ("--", "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "train.py"),
        ACCELERATE, "missing-zero-grad", "optimizer.step()", "accelerate",
    ),
    "-m torch.distributed.run, the Transformers Trainer": Row(
        ("-m", "torch.distributed.run", *RANKS, "train.py"), TRANSFORMERS,
        "double-softmax", "logits.softmax(1)", "transformers",
    ),
    "Lightning's own processes": Row(
        ("train.py",), LIGHTNING, "double-softmax", "cross_entropy(probabilities", "pytorch_lightning"
    ),
}  # fmt: skip


@pytest.fixture
def check(run_cli, tmp_path):
    """``check(program, *words)``: what was found with two ranks, and how it ended."""

    def run(program, *words):
        (tmp_path / "train.py").write_text(program)
        env = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "ACCELERATE_USE_CPU": "true",
        }
        done = run_cli("check", f"--json={tmp_path / 'found.json'}", *words, cwd=tmp_path, env=env)
        assert (tmp_path / "found.json").exists(), done.err
        return json.loads((tmp_path / "found.json").read_text()), done

    return run


@pytest.mark.parametrize("started", ROWS)
def test_started(check, started):
    """Both ranks run to their end and are observed; the mistake is told once, for both."""
    row = ROWS[started]
    if importlib.util.find_spec(row.needs) is None:
        pytest.skip(f"{row.needs} is not installed")
    told, done = check(row.program, *row.words)
    assert sorted(line for line in done.out.splitlines() if line.endswith("ends")) == [
        "0 of 2 ends",
        "1 of 2 ends",
    ]
    assert told["observed"]["steps"] in (24, 48)
    (found,) = [one for one in told["findings"] if one["severity"] != "hint"]
    assert (found["rule"], sorted(found["ranks"])) == (row.rule, [0, 1])
    assert row.line in row.program.splitlines()[found["line"] - 1]
    assert (done.rc, told["program"]["exit_code"]) == (1, 0)


def test_fixed_and_run(check, tmp_path, run_program):
    """``--fix`` writes set_epoch; two observed ranks then have nothing, and the file runs by itself."""
    told, done = check(TRAIN, "--fix", *ROWS["-m torch.distributed.run"].words)
    fixed = (tmp_path / "train.py").read_text()
    line = "    loader.sampler.set_epoch(epoch)\n"
    assert fixed == TRAIN.replace("    for inputs", f"{line}    for inputs")
    assert told["findings"] == []
    assert done.rc == 0, done.err
    alone = run_program(["-m", "torch.distributed.run", *RANKS, "train.py"], cwd=tmp_path)
    assert alone.rc == 0, alone.err
    assert sorted(alone.out.split("\n")) == ["", "0 of 2 ends", "1 of 2 ends"]
