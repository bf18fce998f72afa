"""What a run costs beside DDP written by hand, on gloo: interleaved blocks, with the hand-written one twice.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/ranks.py [ROUNDS [13k 545k 8.5m]]

Each model trains in blocks of so many steps: DDP by hand, ``lw.Run``, DDP by hand again ("null"), in
another order each round. Printed are medians of a step's wall time and of the process's CPU time by hand, and
of what a run costs beside the mean of the other two in the same round, and the second of these beside the
first, with the intervals of those medians (95 %).
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

BATCH = 32
MODELS = {"13k": (64, 2, 100), "545k": (256, 8, 50), "8.5m": (1024, 8, 20)}
"""Width, depth, steps in a block."""


def model_of(width: int, depth: int) -> nn.Module:
    """An MLP of so many layers of that width."""
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, width), *layers, nn.Linear(width, 10))


def by_hand(model, data):
    """Return a function that trains one epoch as PyTorch's DDP tutorial does."""
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
    """Return a function that trains so many steps with a run."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    run = lw.Run(model=model, optimizer=optimizer, progress=False, device="cpu")
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    steps = iter(run.loop(loader, epochs=10**6))

    def train():
        for _ in range(len(loader) // run.world_size):
            step = next(steps)
            inputs, labels = step.batch
            step.backward(nn.functional.cross_entropy(run.model(inputs), labels))
            step.update()

    return train


def measured(train, steps: int) -> tuple[float, float]:
    """Return a block's wall and CPU milliseconds a step."""
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    return (
        (time.perf_counter() - wall) / steps * 1e3,
        (time.process_time() - cpu) / steps * 1e3,
    )


def beside(costs: list[float], hand: list[float]) -> str:
    """Return the median of what is more than by hand, and its interval."""
    more = sorted(cost / one - 1 for cost, one in zip(costs, hand, strict=True))
    middle, width = len(more) // 2, round(0.98 * len(more) ** 0.5)
    low, high = more[max(0, middle - width)], more[min(len(more) - 1, middle + width)]
    return f"{statistics.median(more):+6.1%} ({low:+.1%} to {high:+.1%})"


def main(rounds: int, models: list[str]) -> None:
    """Print two lines a model."""
    meets = lw.Run(model=nn.Linear(1, 1), optimizer=torch.optim.SGD, device="cpu")
    meets.close()
    first, size = dist.get_rank() == 0, dist.get_world_size()
    if first:
        print(f"{platform.processor()}, {size} ranks, torch {torch.__version__}, {rounds} rounds")
        print(f"{'parameters':>12} {'by hand':>17} {'run':>26} {'null':>26}")
    for width, depth, steps in (MODELS[name] for name in models):
        count = BATCH * steps * size
        data = TensorDataset(torch.randn(count, 64), torch.randint(0, 10, (count,)))
        kinds = [by_hand, by_run, by_hand]
        trainers = [make(model_of(width, depth), data) for make in kinds]
        for train in trainers:
            train()
        blocks = []
        for number in range(rounds):
            order = [(number + at) % 3 for at in range(3)]
            found = {kind: measured(trainers[kind], steps) for kind in order}
            blocks.append([found[kind] for kind in range(3)])
        for number, clock in enumerate(("wall", "cpu")):
            hand, run, null = ([block[kind][number] for block in blocks] for kind in range(3))
            both = [(one + other) / 2 for one, other in zip(hand, null, strict=True)]
            if first:
                parameters = sum(p.numel() for p in model_of(width, depth).parameters())
                print(
                    f"{parameters:12,} {statistics.median(hand):8.3f} ms {clock:>5} "
                    f"{beside(run, both):>26} {beside(null, hand):>26}",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20, sys.argv[2:] or list(MODELS))
