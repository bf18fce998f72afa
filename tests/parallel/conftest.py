"""``run_ranks(program, size)``: real processes, one thread each, with torchrun's environment and no agent."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 100.0
# Gloo misses at times that a process was killed (1 of 182 kills of plain DDP) and waits for the time limit,
# ten minutes for users, and less here than a test waits for an end (60 s).
PRELUDE = """
import json, os, sys, warnings
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import loopwright as lw
from loopwright.parallel import group
group.LIMIT_S = 40.0
RANK, SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
def tell(**values):
    with open(f"told-{SIZE}-{RANK}.jsonl", "a") as file:
        print(json.dumps(values), file=file)
"""


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Ranks:
    """Processes that train together; what each has told comes back from ``told``."""

    def __init__(self, start: Callable[..., Any], folder: Path):
        self._start = start
        self.folder = folder

    def write(self, program: str) -> Path:
        """Write a program with what all begin with."""
        file = self.folder / "program.py"
        file.write_text(PRELUDE + program)
        return file

    def start(self, program: str, size: int, **env: str) -> list[Any]:
        """Start ``size`` processes of a program; one alone gets no environment of torchrun's."""
        file = self.write(program)
        port = str(free_port())
        started = []
        for rank in range(size):
            (self.folder / f"told-{size}-{rank}.jsonl").unlink(missing_ok=True)
            around = {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            }  # fmt: skip
            around = around if size > 1 else {"WORLD_SIZE": None}
            started.append(self._start([file], cwd=self.folder, env={**around, **env}))
        return started

    def run(self, program: str, size: int, **env: str) -> list[list[dict[str, Any]]]:
        """Run them to their end, which has to be a good one; returns what each has told."""
        ended = [one.wait(LIMIT_S) for one in self.start(program, size, **env)]
        failed = [(rank, end) for rank, end in enumerate(ended) if end.rc]
        assert not failed, "\n".join(f"rank {r}: {e.rc}\n{e.out}\n{e.err}" for r, e in failed)
        return [self.told(size, rank) for rank in range(size)]

    def told(self, size: int, rank: int) -> list[dict[str, Any]]:
        """Return what a rank has told."""
        path = self.folder / f"told-{size}-{rank}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def ranks(start_program, tmp_path) -> Ranks:
    """Real processes, in a folder of their own."""
    return Ranks(start_program, tmp_path)
