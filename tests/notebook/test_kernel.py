"""Cells in a real Jupyter kernel: interrupted, they save and go on; ``%%explain`` shows its page."""

from __future__ import annotations

import json
import re
import signal
import time
from queue import Empty

import pytest

client = pytest.importorskip("jupyter_client", reason="needs ipykernel and jupyter_client")
pytest.importorskip("ipykernel", reason="needs ipykernel and jupyter_client")

LIMIT_S = 120.0

MODEL = """
import torch, loopwright as lw
from torch.utils.data import DataLoader, TensorDataset

def build(out=None):
    lw.seed(0)
    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(64, 8), torch.randint(3, (64,)))
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    saves = lw.Checkpoint(every_steps=1)
    run = lw.Run(out, model=model, optimizer=optimizer, checkpoint=saves if out else None)
    return run, DataLoader(data, batch_size=8, shuffle=True)

def digest(run):
    import hashlib
    h = hashlib.sha256()
    for p in run.model.parameters():
        h.update(p.detach().numpy().tobytes())
    return h.hexdigest()
"""

TRAIN = """
import time
run, loader = build("run")
for step in run.loop(loader, epochs=3):
    x, y = step.batch
    step.backward(torch.nn.functional.cross_entropy(run.model(x), y))
    step.update()
    if wait_at == step.index:
        print("READY", flush=True)
        for _ in range(100):  # the signal comes now; the turn is finished nevertheless
            time.sleep(0.02)
print("ENDED", run.totals["turns"], digest(run))
"""

WHOLE = TRAIN.replace('build("run")', "build()")


class Kernel:
    """A started kernel whose working folder is ``folder``."""

    def __init__(self, folder):
        self.manager = client.KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.talk = self.manager.client()
        self.talk.start_channels()
        self.talk.wait_for_ready(timeout=LIMIT_S)

    def run(self, code, *, when_said=None, do=None):
        """Run a cell; what it printed, its displayed data, and its exception's name."""
        sent = self.talk.execute(code)
        said, shown, error = "", [], None
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                message = self.talk.get_iopub_msg(timeout=1)
            except Empty:
                if not self.manager.is_alive():
                    return said, shown, "dead"
                continue
            if message["parent_header"].get("msg_id") != sent:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                said += content["text"]
                if when_said is not None and when_said in said:
                    when_said = None
                    do()
            elif kind in ("display_data", "execute_result"):
                shown.append(content["data"])
            elif kind == "error":
                error, text = content["ename"], "\n".join(content["traceback"])
                said += text
            elif kind == "status" and content["execution_state"] == "idle":
                return said, shown, error
        raise TimeoutError(f"the cell did not end: {said}")

    def kill(self):
        """As the kernel's process ends for want of memory."""
        self.manager.signal_kernel(signal.SIGKILL)

    def close(self):
        """End it at once."""
        self.talk.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    """``kernel()``: a new kernel in an empty folder; all are ended afterwards."""
    made = []

    def start():
        made.append(Kernel(tmp_path))
        return made[-1]

    yield start
    for one in made:
        one.close()


def ended(said):
    """The turns and the weights' digest that a cell printed at its end."""
    turns, weights = re.findall(r"ENDED (\d+) ([0-9a-f]{64})", said)[-1]
    return int(turns), weights


def outcome(folder):
    """The kind of a run's end, and its turns."""
    saved = json.loads((folder / "run" / "outcome.json").read_text())
    return saved["outcome"]["kind"], saved["totals"]["turns"]


def test_an_interrupted_cell_goes_on(kernel, tmp_path):
    """The stop button in the middle of a turn: the turn is finished and saved, the cell again ends alike."""
    one = kernel()
    cell = MODEL + "wait_at = 11\n" + TRAIN
    said, _, error = one.run(cell, when_said="READY", do=one.manager.interrupt_kernel)
    assert error == "KeyboardInterrupt", said
    assert outcome(tmp_path) == ("interrupted", 12)
    said, _, error = one.run("wait_at = None\n" + TRAIN)
    assert error is None, said
    assert "resumed at turn 12" in said
    assert "epoch 3/3" in said
    assert "Warning" not in said
    whole, _, error = one.run(WHOLE)
    assert error is None, whole
    assert ended(said) == ended(whole)
    assert ended(whole)[0] == 24
    said, shown, error = one.run("run.history")
    assert error is None, said
    assert "<svg" in shown[0]["text/html"]


@pytest.mark.long
def test_a_killed_kernel_goes_on(kernel):
    """The kernel dies in the middle of a turn; in a new one the same cell ends with the same bits."""
    one, other = kernel(), kernel()
    cell = MODEL + "wait_at = 11\n" + TRAIN
    said, _, error = one.run(cell, when_said="READY", do=one.kill)
    assert error == "dead", said
    said, _, error = other.run(MODEL + "wait_at = None\n" + TRAIN)
    assert error is None, said
    assert "resumed at turn 1" in said  # 10 or 11: a background save may be under way
    whole, _, error = other.run(WHOLE)
    assert error is None, whole
    assert ended(said) == ended(whole)


@pytest.mark.long
def test_explain_in_a_cell(kernel):
    """``%%explain`` shows the page in a frame, and the cell's own variables are there afterwards."""
    one = kernel()
    said, _, error = one.run("%load_ext loopwright\n" + MODEL)
    assert error is None, said
    said, shown, error = one.run("%%explain\nwait_at = None\n" + WHOLE)
    assert error is None, said
    page = next(data["text/html"] for data in shown if "text/html" in data)
    assert "<iframe" in page
    said, _, error = one.run("print(run.totals['turns'])")
    assert (said.strip(), error) == ("24", None)
