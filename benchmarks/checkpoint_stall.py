"""What a checkpoint costs the training: by how much a block of turns with one save is longer.

    python benchmarks/checkpoint_stall.py [ROUNDS]

A model and Adam's state are saved once per block: in the background (as runs do), the same and waiting
for it, by ``torch.save`` (which does not wait for the disk) and by ``torch.save`` followed by ``fsync``.
Blocks of all kinds take turns; "nothing" stands twice among them, and the difference of the two is the
noise. A block is long enough for a background write to end in it, so what the writing thread takes from
the training counts, too.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from loopwright.checkpoint import Store

SIZES = {"1 MB": (200, 2), "30 MB": (512, 10), "300 MB": (1448, 12)}
"""State (weights and two moments) -> width and depth of a multilayer perceptron."""


class Workload:
    """A model that trains, and the state that is saved."""

    def __init__(self, width, depth):
        torch.manual_seed(0)
        self.model = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.x = torch.randn(32, width)
        for _ in range(3):
            self.turn()

    def turn(self):
        """Train on one batch."""
        self.optimizer.zero_grad()
        self.model(self.x).square().mean().backward()
        self.optimizer.step()

    def state(self):
        """Return what is saved."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def bytes(self):
        """Return the size of its tensors."""
        return 3 * sum(p.numel() * p.element_size() for p in self.model.parameters())


def torch_save(state, path, *, sync):
    with path.open("wb") as file:
        torch.save(state, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def kinds(folder):
    """Return name -> what saves a state, and what ends the block."""
    store = Store(folder / "store")
    names = iter(range(10**6))

    def ours(state, *, background):
        store.save(state, name=f"c-{next(names)}", background=background)

    def nothing(state):
        pass

    return {
        "nothing": nothing,
        "background": lambda state: ours(state, background=True),
        "waiting": lambda state: ours(state, background=False),
        "torch.save": lambda state: torch_save(state, folder / "plain.pt", sync=False),
        "torch.save + fsync": lambda state: torch_save(state, folder / "synced.pt", sync=True),
        "nothing, again": nothing,
    }, store


def measure(width, depth, rounds):
    """Return kind -> (milliseconds that the call took, by which the block was longer), medians."""
    work = Workload(width, depth)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        savers, store = kinds(Path(place))
        for save in savers.values():
            save(work.state())
        store.wait()
        started = perf_counter()
        store.save(work.state(), name="first", background=False)
        write = perf_counter() - started
        started = perf_counter()
        for _ in range(5):
            work.turn()
        turns = max(5, int(2 * write / ((perf_counter() - started) / 5)))
        calls = {kind: [] for kind in savers}
        blocks = {kind: [] for kind in savers}
        for _ in range(rounds):
            for kind, save in savers.items():
                started = perf_counter()
                save(work.state())
                called = perf_counter()
                for _ in range(turns):
                    work.turn()
                store.wait()
                blocks[kind].append(perf_counter() - started)
                calls[kind].append(called - started)
        store.close()
    base = blocks["nothing"]
    return turns, work.bytes(), {
        kind: (
            1e3 * statistics.median(calls[kind]),
            1e3 * statistics.median(a - b for a, b in zip(blocks[kind], base, strict=True)),
        )
        for kind in savers
    }  # fmt: skip


def main(rounds=7):
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {rounds} rounds, {os.cpu_count()} cores")
    for label, (width, depth) in SIZES.items():
        turns, size, found = measure(width, depth, rounds)
        print(f"\nabout {label} ({size / 1e6:.1f} MB), blocks of {turns} turns")
        print(f"{'':20} {'the call, ms':>14} {'the block, ms longer':>22}")
        for kind, (call, longer) in found.items():
            print(f"{kind:20} {call:14.1f} {longer:22.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
