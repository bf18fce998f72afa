"""Memory and time over a million turns: neither may grow.

    python benchmarks/flat_memory.py [--steps 1000000]

One loop of one epoch after another on a linear model, with everything that is on by default and a logged
value. Printed at each power of ten and at the end: the process's memory, objects that Python knows, bytes of
the history's file, microseconds a turn since the line before.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw


def resident_kb() -> int:
    """Return the process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    """Train, and print rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    inputs = torch.randn(8000, 8)
    model = nn.Linear(8, 1)
    loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), 8, shuffle=True)
    print(f"{'turns':>9} {'resident kB':>12} {'objects':>9} {'history kB':>11} {'µs a turn':>10}")
    with tempfile.TemporaryDirectory() as place:
        run = lw.Run(
            f"{place}/run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
            progress=False,
        )  # fmt: skip
        before, began = 0, time.perf_counter()
        for step in run.loop(loader, steps=steps):
            data, target = step.batch
            loss = nn.functional.mse_loss(run.model(data), target)
            step.backward(loss)
            step.update()
            step.log(twice=2 * loss.detach())
            done = step.index + 1
            if done in (1_000, 10_000, 100_000, 300_000, 600_000) or done == steps:
                gc.collect()
                now = time.perf_counter()
                history = sum(f.stat().st_size for f in Path(place, "run").glob("*.jsonl")) // 1024
                print(
                    f"{done:9} {resident_kb():12} {len(gc.get_objects()):9} {history:11} "
                    f"{1e6 * (now - began) / (done - before):10.0f}",
                    flush=True,
                )
                before, began = done, time.perf_counter()


if __name__ == "__main__":
    main()
