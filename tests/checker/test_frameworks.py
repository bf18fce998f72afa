"""The loops of other people's trainers: healthy ones are silent, a mistake in what the user wrote is found.

Each needs its library (``pip install loopwright[frameworks]``) and is left out without it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.long


class Row(NamedTuple):
    """A healthy program, and what makes it faulty."""

    library: str
    program: str
    instead_of: str
    write: str
    rule: str
    line: str
    """Text of the line where the finding is."""


DATA = """\
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
X = torch.randn(96, 6)
Y = (X[:, 0] > 0).long()
"""
ACCELERATE = """\
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 5))
parts = net, optimizer, DataLoader(TensorDataset(X, Y), 8, shuffle=True), schedule
net, optimizer, loader, schedule = accelerator.prepare(*parts)
for epoch in range(3):
    net.train()
    for inputs, labels in loader:
        with accelerator.accumulate(net):
            loss = F.cross_entropy(net(inputs), labels)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    net.eval()
    with torch.no_grad():
        print(accelerator.gather_for_metrics((net(X).argmax(1) == Y).float()).mean().item())
"""
LIGHTNING = """\
import pytorch_lightning as pl
class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    def training_step(self, batch, index):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
        return loss
    def validation_step(self, batch, index):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False,
                     enable_progress_bar=False, accumulate_grad_batches=2, gradient_clip_val=1.0)
train, valid = DataLoader(TensorDataset(X, Y), 8, shuffle=True), DataLoader(TensorDataset(X, Y), 32)
trainer.fit(Classifier(), train, valid)
"""
TRANSFORMERS = """\
from transformers import Trainer, TrainingArguments
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, 2)
    def forward(self, inputs, labels=None):
        logits = self.head(self.body(inputs))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}
rows = [{"inputs": x, "labels": y} for x, y in zip(X, Y)]
settings = TrainingArguments("out", max_steps=30, per_device_train_batch_size=8, use_cpu=True, report_to=[],
                             eval_strategy="steps", eval_steps=10, save_strategy="no", learning_rate=1e-2,
                             gradient_accumulation_steps=2, warmup_steps=3, disable_tqdm=True)
Trainer(Net(), settings, train_dataset=rows, eval_dataset=rows[:32]).train()
"""
IGNITE = """\
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.metrics import Accuracy
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def update(engine, batch):
    net.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(net(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.item()
trainer, evaluator = Engine(update), create_supervised_evaluator(net, {"accuracy": Accuracy()})
@trainer.on(Events.EPOCH_COMPLETED)
def measure(engine):
    print(evaluator.run(DataLoader(TensorDataset(X, Y), 32)).metrics)
trainer.run(DataLoader(TensorDataset(X, Y), 8, shuffle=True), max_epochs=3)
"""
SKORCH = """\
from skorch import NeuralNetClassifier
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    def forward(self, x):
        return self.layers(x)
net = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=4, lr=0.1, batch_size=8,
                          iterator_train__shuffle=True, verbose=0)
net.fit(X.numpy(), Y.numpy())
"""
KERAS = """\
import keras
net = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(16, activation="relu"),
                        keras.layers.Dropout(0.2), keras.layers.Dense(2)])
net.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
net.fit(X.numpy(), Y.numpy(), batch_size=8, epochs=4, validation_split=0.2, verbose=0)
print(float(net.evaluate(X.numpy(), Y.numpy(), verbose=0)))
"""
ROWS = [
    Row("accelerate", ACCELERATE, "            optimizer.zero_grad()\n", "",
        "missing-zero-grad", "optimizer.step()"),
    Row("accelerate", ACCELERATE, "    net.eval()\n", "", "eval-in-train-mode", "(net(X).argmax(1)"),
    Row("pytorch_lightning", LIGHTNING, "F.cross_entropy(self.net(batch[0])",
        "F.cross_entropy(self.net(batch[0]).softmax(1)", "double-softmax", "loss = F.cross_entropy"),
    Row("transformers", TRANSFORMERS, "F.cross_entropy(logits", "F.cross_entropy(logits.softmax(1)",
        "double-softmax", '"loss": F.cross_entropy'),
    Row("ignite", IGNITE, "    optimizer.zero_grad()\n", "", "missing-zero-grad", "optimizer.step()"),
    Row("skorch", SKORCH, "return self.layers(x)", "return self.layers(x).softmax(1)",
        "double-softmax", "net.fit("),
    Row("keras", KERAS, "", "", "", ""),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.library}-{row.rule or 'healthy'}")
def test_framework(row, run_cli, tmp_path):
    """The healthy program gives no error or warning, the faulty one just its own, where the user wrote it."""
    if importlib.util.find_spec(row.library) is None:
        pytest.skip(f"{row.library} is not installed")
    healthy = DATA + row.program
    found, steps = checked(healthy, run_cli, tmp_path)
    assert found == []
    assert steps >= 12 or row.library == "keras"  # whose optimizers are its own
    if row.rule:
        faulty = healthy.replace(row.instead_of, row.write)
        assert faulty != healthy
        found, _ = checked(faulty, run_cli, tmp_path)
        lines = faulty.splitlines()
        assert [(rule, row.line in lines[line - 1]) for rule, line in found] == [(row.rule, True)]


def checked(program, run_cli, folder):
    """Errors and warnings as (rule, line), and how many steps were seen."""
    (folder / "train.py").write_text(program)
    told = folder / "found.json"
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    done = run_cli("check", f"--json={told}", "train.py", cwd=folder, env=env)
    record = json.loads(told.read_text())
    assert record["program"]["exit_code"] == 0, done.err
    found = [one for one in record["findings"] if one["severity"] != "hint"]
    return [(one["rule"], one["line"]) for one in found], record["observed"]["steps"]
