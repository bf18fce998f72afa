"""How training, checkpoints and memory go with the number of ranks; one line for each call.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/scaling.py weak
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/scaling.py checkpoint fsdp 1024

weak        samples a second with 64 samples a rank
strong      samples a second with 64 samples among all ranks
checkpoint  seconds for one, written, hashed and on the disk, where one follows the other
memory      the most that a rank has held, beyond what it held before it had a model

After the kind come ``ddp`` or ``fsdp`` and the width of an MLP of eight layers (512).
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import loopwright as lw

DEPTH, STEPS, SAVES = 8, 150, 6
SIZE = int(os.environ.get("WORLD_SIZE", "1"))


class Deep(nn.Module):
    """An MLP whose layers FSDP2 gathers one by one."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(DEPTH)])
        self.last = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ten logits."""
        for layer in self.layers:
            x = layer(x).relu()
        return self.last(x)


def held() -> float:
    """Return the MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(kind: str, parallel: str = "ddp", width: str = "512") -> None:
    """Measure, and let the first rank print a line."""
    torch.manual_seed(0)
    batch = 64 // SIZE if kind == "strong" else 64
    steps = SAVES if kind == "checkpoint" else 5 if kind == "memory" else STEPS
    # The ranks meet, and import what a strategy needs.
    lw.Run(
        model=nn.Linear(4, 4), optimizer=torch.optim.SGD, device="cpu", parallel=parallel
    ).close()
    out = None
    if kind == "checkpoint":
        out = Path(tempfile.gettempdir()) / f"scaling-{os.environ.get('MASTER_PORT', 'alone')}"
    before = held()
    model = Deep(int(width))
    count = sum(p.numel() for p in model.parameters())
    run = lw.Run(
        out, model=model, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-4), progress=False,
        device="cpu", parallel=parallel, resume="never",
        checkpoint=lw.Checkpoint(every_steps=1 if out else None, every_epochs=None, every_minutes=None),
    )  # fmt: skip
    data = [(torch.randn(batch, int(width)), torch.randint(0, 10, (batch,)))] * steps
    times, began = [], time.perf_counter()
    for step in run.loop(data, epochs=1, sharded=True):
        inputs, labels = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
        step.update()
        now = time.perf_counter()
        times.append(now - began)
        began = now
    run.close()
    if run.rank == 0:
        seconds = statistics.median(times[2:])
        said = {
            "weak": f"{SIZE * batch / seconds:9.0f} samples/s  {seconds * 1e3:.2f} ms a step",
            "strong": f"{SIZE * batch / seconds:9.0f} samples/s  {seconds * 1e3:.2f} ms a step",
            "checkpoint": f"{seconds:9.3f} s for {12 * count / 1e6:.0f} MB",
            "memory": f"{held() - before:9.0f} MiB",
        }[kind]
        print(f"{kind:>10} {parallel:>5} {SIZE} ranks {count:11,} parameters {said}", flush=True)
        if out:
            shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
