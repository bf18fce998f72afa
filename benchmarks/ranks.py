"""What a run costs beside DDP written by hand, on gloo: interleaved blocks, with the hand-written one twice.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/ranks.py [ROUNDS [MODELS]]

Three models of growing size (MODELS: the first of them) train in blocks of 50 steps: DDP by hand,
``lw.Run``, DDP by hand again ("null"). Printed are the medians of the blocks' wall time and of the
process's CPU time, a step.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import loopwright as lw

STEPS, BATCH = 50, 32


def model_of(width: int, depth: int) -> nn.Module:
    """An MLP of so many layers of that width."""
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, width), *layers, nn.Linear(width, 10))


def by_hand(model, data):
    """Return a function that trains one epoch of ``STEPS`` steps as PyTorch's DDP tutorial does."""
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    sampler = DistributedSampler(data, shuffle=True)
    loader = DataLoader(data, batch_size=BATCH, sampler=sampler)
    epoch = [0]

    def train():
        sampler.set_epoch(epoch[0])
        epoch[0] += 1
        total = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(wrapped(inputs), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    return train


def by_run(model, data):
    """Return a function that trains one epoch of as many steps with a run."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    run = lw.Run(model=model, optimizer=optimizer, progress=False, device="cpu")
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    steps = iter(run.loop(loader, epochs=10**6))

    def train():
        for _ in range(STEPS):
            step = next(steps)
            inputs, labels = step.batch
            step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
            step.update()

    return train


def measured(train) -> tuple[float, float]:
    """Return a block's wall and CPU milliseconds a step."""
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    return (
        (time.perf_counter() - wall) / STEPS * 1e3,
        (time.process_time() - cpu) / STEPS * 1e3,
    )


def main(rounds: int, models: int = 3) -> None:
    """Print one line a model."""
    meets = lw.Run(model=nn.Linear(1, 1), optimizer=torch.optim.SGD, device="cpu")
    meets.close()
    first = dist.get_rank() == 0
    size = dist.get_world_size()
    if first:
        print(f"{platform.processor()}, {size} ranks, torch {torch.__version__}, {rounds} rounds")
        print(f"{'parameters':>12} {'by hand':>18} {'run':>9} {'null':>9}")
    data = TensorDataset(
        torch.randn(BATCH * STEPS * size, 64), torch.randint(0, 10, (BATCH * STEPS * size,))
    )
    for width, depth in ((64, 2), (256, 8), (1024, 8))[:models]:
        kinds = [by_hand, by_run, by_hand]
        trainers = [make(model_of(width, depth), data) for make in kinds]
        for train in trainers:
            train()
        blocks = [[measured(train) for train in trainers] for _ in range(rounds)]
        for number, clock in enumerate(("wall", "cpu")):
            hand, run, null = (
                statistics.median(block[kind][number] for block in blocks) for kind in range(3)
            )
            if first:
                count = sum(p.numel() for p in model_of(width, depth).parameters())
                print(
                    f"{count:12,} {hand:8.3f} ms {clock:>5} {run / hand - 1:+9.1%} {null / hand - 1:+9.1%}"
                )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ["20"]))
