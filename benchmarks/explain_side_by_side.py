"""One program under ``loopwright explain`` and under the tools that people look into models with.

    python benchmarks/explain_side_by_side.py [ROUNDS]

The program is a small convolutional net that is trained for six steps. Each tool looks at it in a process of
its own, as its documentation says; "alone" is the program without any tool, and "null" the same once more.
Printed are medians of CPU seconds and of the peak resident memory of the whole process. Tools that are not
installed are left out, by name: torchinfo, torchview, torchviz, torchlens.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
X, Y = torch.randn(192, 3, 32, 32), torch.randint(0, 10, (192,))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=32)
layers, width = [], 3
for wide in (32, 64, 64, 128):
    layers += [nn.Conv2d(width, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    width = wide
model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
"""
STEP = """\
    optimizer.zero_grad()
    loss = criterion(model(data), labels)
    loss.backward()
    optimizer.step()
    loss.item()
"""
TRAIN = f"for data, labels in loader:\n{STEP}"
BATCH = "data, labels = next(iter(loader))\n"
SUMMARY = "text = str(torchinfo.summary(model, input_data=data, verbose=0))\n"
DRAWN = "text = torchview.draw_graph(model, input_data=data).visual_graph.source\n"
DOT = (
    "loss = criterion(model(data), labels)\n"
    "text = torchviz.make_dot(loss, params=dict(model.named_parameters()), show_saved=True).source\n"
)
LOGGED = "text = str(torchlens.trace(model, data))\n"
PROFILED = (
    "from torch.profiler import profile\n"
    "with profile(profile_memory=True, record_shapes=True) as seen:\n"
    + "".join(f"    {line}\n" for line in TRAIN.splitlines())
    + "text = seen.key_averages(group_by_input_shape=True).table()\nseen.export_chrome_trace('trace.json')\n"
)
TOOLS = {
    "alone": TRAIN,
    "null": TRAIN,
    "torchinfo": f"import torchinfo\n{BATCH}{SUMMARY}{TRAIN}",
    "torchview": f"import torchview\n{BATCH}{DRAWN}{TRAIN}",
    "torchviz": f"import torchviz\n{BATCH}{DOT}{TRAIN}",
    "torchlens": f"import torchlens\n{BATCH}{LOGGED}{TRAIN}",
    "profiler": PROFILED,
    "loopwright": None,
}
PACKAGES = ("torchinfo", "torchview", "torchviz", "torchlens")


def run(tool: str) -> dict[str, float]:
    """CPU seconds and peak megabytes of the program under a tool, and bytes of what the tool wrote."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        body = TOOLS[tool]
        script.write_text(PROGRAM + (TRAIN if body is None else body))
        words = [sys.executable, "train.py"]
        if body is None:
            words = [
                sys.executable,
                "-m",
                "loopwright",
                "explain",
                "--html",
                "seen.html",
                "--quiet",
                "train.py",
            ]
        watch = (
            "import json, resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            "print(json.dumps({'cpu': used.ru_utime + used.ru_stime, 'peak': used.ru_maxrss / 1000}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", watch, *words], cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{tool} failed:\n{done.stderr}")
        return json.loads(done.stdout)


def main() -> None:
    """Take turns, print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    there = {
        one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()
    }
    chosen = [tool for tool in TOOLS if tool not in PACKAGES or tool in there]
    found = {tool: [] for tool in chosen}
    for _ in range(rounds):
        for tool in chosen:
            found[tool].append(run(tool))
    print(f"Python {platform.python_version()}, torch {there['torch']}, {rounds} rounds, medians")
    for tool, seen in found.items():
        cpu, peak = (statistics.median(one[key] for one in seen) for key in ("cpu", "peak"))
        print(f"{tool:10} {there.get(tool, ''):8} {cpu:7.2f} s  {peak:7.0f} MB")
    for tool in PACKAGES:
        if tool not in chosen:
            print(f"{tool} is not installed")


if __name__ == "__main__":
    main()
