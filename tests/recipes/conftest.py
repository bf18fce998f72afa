"""Data for the recipes' tests: small files made on the spot, and the big ones where they are."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    """Tests draw the same numbers in every order and leave the generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def big_data():
    """The folder of data sets that are too big for the repository; tests of them skip without it."""
    folder = Path(os.environ.get("LOOPWRIGHT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no data sets: set LOOPWRIGHT_DATA")
    return folder


@pytest.fixture
def write_idx():
    """Return a function that writes a uint8 tensor as an idx file, gzip by its name."""

    def write(path, array):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = bytes([0, 0, 8, array.dim()]) + sizes + bytes(array.flatten().tolist())
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def clothes(tmp_path, write_idx):
    """A folder in the form of Fashion-MNIST: 48 training pictures and 12 test pictures of noise."""
    folder = tmp_path / "clothes"
    folder.mkdir()
    for part, count, suffix in (("train", 48, ".gz"), ("t10k", 12, "")):
        pictures = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", pictures)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return folder


@pytest.fixture
def learns_once():
    """Return a function that takes one training step of a job; every parameter has to move."""

    def step(job):
        batch = next(iter(job.train_loader))
        inputs, targets = batch
        job.model.train()
        outputs = job.model(inputs)
        loss = job.criterion(outputs, targets)
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()
        idle = [name for name, p in job.model.named_parameters() if p.grad is None]
        assert not idle
        job.optimizer.step()
        job.optimizer.zero_grad()
        return outputs.detach()

    return step
