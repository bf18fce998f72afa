"""On a GPU: ``.item()`` split into waiting and copying, device times and the device's lane, the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from explainer.recorded import line, record, step
from loopwright.report import explain_html, explain_terminal

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 1))
    def forward(self, x):
        if x.is_cuda:
            torch.cuda._sleep(CYCLES)
        return self.body(x)

X = torch.randn(16 * 14, 6)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X.sum(1, keepdim=True)), batch_size=16)
model = Slow().cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
criterion = nn.MSELoss()
first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
model(X[:16].cuda())
first.record()
torch.cuda._sleep(CYCLES)
last.record()
torch.cuda.synchronize()
print("slept", first.elapsed_time(last) / 1e3)
losses = []
for data, target in loader:
    data, target = data.to("cuda"), target.cuda()
    optimizer.zero_grad()
    output = model(data)
    loss = criterion(output, target)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    shown = output.detach().cpu()
print("losses", losses)
print("weights", [p.double().sum().item() for p in model.parameters()])
print("draw", torch.rand(3, device="cuda").tolist(), torch.rand(3).tolist())
""".replace("CYCLES", "40_000_000")


def run_program(argv, *, cwd):
    """A process of its own: CUDA cannot be used in one forked from a process that has used it."""
    path = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run([sys.executable, *argv], cwd=cwd, capture_output=True, text=True, check=False,
                          timeout=300, env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    return SimpleNamespace(rc=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The record of the program, with what it printed."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "train.py").write_text(PROGRAM)
    return record(run_program, folder / "train.py", folder / "record.json", timed=8)


@pytest.fixture(scope="module")
def timing(seen):
    """Where the time of its training loop goes."""
    (loop,) = [at for at, one in enumerate(seen.loops) if one.kind == "training"]
    return next(one for one in seen.timings if one.loop == loop)


@pytest.fixture(scope="module")
def slept(seen):
    """Seconds that the device sleeps in each forward pass, by its own clock."""
    return float(seen.printed.split()[1])


def test_the_same_bits(seen, tmp_path):
    """Losses, weights and what both generators draw next are those of the program alone."""
    (tmp_path / "train.py").write_text(PROGRAM)
    alone = run_program(["train.py"], cwd=tmp_path)
    assert alone.rc == 0, alone.err
    assert seen.printed.splitlines()[1:] == alone.out.splitlines()[1:]
    assert seen.notes == []


def test_item_waits_and_then_copies(seen, timing, slept):
    """The host gets far ahead and waits in ``.item()``; the copy is small; ``.cpu()`` after it waits not."""
    waited, copied = timing.waits["item"]
    assert waited > slept / 2
    assert 0 < copied < waited / 10
    assert timing.phases["item"] == pytest.approx(waited + copied, rel=0.2)
    facts = line(step(seen, 2), seen, "loss.item()").events[-1].facts
    assert facts["waited"] > slept / 2
    assert facts["copied_in"] < facts["waited"]
    said = " ".join(line(step(seen, 2), seen, "loss.item()").sentences)
    assert "after waiting" in said
    assert timing.waits.get("transfer", [0.0])[0] < slept / 2


def test_device_times(timing, slept):
    """Forward is short on the host and long on the device, as long as an event of the program's own says."""
    assert timing.phases["forward"] < slept / 2
    assert timing.device["forward"] == pytest.approx(slept, rel=0.25)
    assert timing.device["backward"] < slept / 2
    assert timing.seconds > slept * 0.5  # the clock of a device that warms up rises


def test_the_timeline_has_a_lane_of_the_device(seen, timing):
    """Host and device side by side, each lane in the order of the step; on the page and in the terminal."""
    wanted = ("zero_grad", "forward", "backward", "step", "item")
    for lane in ("host", "device"):
        phases = [one.phase for one in timing.timeline if one.lane == lane]
        places = [phases.index(one) for one in wanted]
        assert places == sorted(places)
    html = explain_html.render(seen)
    assert ">device</text>" in html
    assert "On the device</th>" in html
    assert "On the device: " in explain_terminal.render(seen)


def test_what_lines_do_on_a_gpu(seen):
    """Transfers copy, dropout draws from the GPU's generator, what-ifs are asked, the rule holds."""
    second = step(seen, 2)
    to, cuda = [one.facts for one in line(second, seen, 'data.to("cuda")').events]
    assert (to["copied"], to["from_device"], to["device"]) == (True, "cpu", "cuda:0")
    assert (cuda["copied"], cuda["bytes"]) == (True, 64)
    assert line(second, seen, "return self.body(x)").effects.rng == ["cuda"]
    assert second.whatifs, second.not_replayed
    assert all(rule.agrees for one in seen.steps for rule in one.rules)
    assert line(second, seen, "loss.backward()").effects.grads[0].count == 4
