"""Out of memory: what was asked for, and what stands in the way."""

from __future__ import annotations

import gc

import pytest
import torch
from small import make, network
from torch import nn

from loopwright.train.mishaps import memory

CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 1.10 GiB is free."
)


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        (CPU, 4503599627370496, "out of memory: 4.5 PB were asked for"),
        (CUDA, 2684354560, "out of memory: 2.7 GB were asked for"),
        ("MPS backend out of memory", None, "out of memory"),
        ("CUDA error: out of memory", None, "out of memory"),
    ],
)
def test_reading(text, asked, words):
    """The allocators' messages become one clause."""
    error = RuntimeError(text)
    assert memory.out_of_memory(error)
    assert memory.asked_for(error) == asked
    assert memory.reading(error) == words


def test_reading_of_torchs_own():
    """What torch raises here and now is read, and what it raises for another reason is not taken for it."""
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(1 << 50)
    assert memory.asked_for(caught.value) == 4 << 50
    assert memory.out_of_memory(MemoryError())
    assert not memory.out_of_memory(RuntimeError("memory format"))


def test_the_largest_tensors_by_name():
    """Parameters, gradients, the optimizer's state, buffers and averages are named, the largest first."""
    gc.collect()
    model = nn.Linear(1000, 1200)
    model.register_buffer("seen", torch.zeros(900_000))
    run = make(model=model, optimizer=torch.optim.Adam(model.parameters()), ema=0.9)
    x = torch.zeros(4, 1000)
    for step in run.loop([x] * 3, steps=2):
        step.backward(run.model(step.batch).sum())
        step.update()
    run.model(x).sum().backward()
    other = torch.zeros(1_500_000)
    lines = memory.table(run)
    assert lines[0].startswith("the tensors that are alive hold ")
    assert lines[0].endswith(", the largest:")
    rows = [tuple(part.strip() for part in line.split("  ") if part.strip()) for line in lines[1:]]
    assert rows[0] == ("6.0 MB", "another tensor", "float32 (1500000)")
    names = {name for _, name, _ in rows[1:]}
    assert names <= {
        "weight", "weight, gradient", "weight, optimizer's exp_avg", "weight, optimizer's exp_avg_sq",
        "seen (buffer)", *(name for name in names if name.startswith("average")),
    }  # fmt: skip
    assert {"weight", "weight, gradient", "weight, optimizer's exp_avg"} <= names
    assert len(rows) <= memory.SHOWN
    del other


def test_views_count_once():
    """A tensor and its views are one piece of memory."""
    gc.collect()
    run = make(model=network())
    before = memory.table(run)[0]
    large = torch.zeros(3_000_000)
    views = [large[i:] for i in range(5)]
    lines = memory.table(run)
    assert sum("float32 (3000000)" in line for line in lines) == 1
    assert not any("float32 (2999999)" in line for line in lines)
    assert before != lines[0]
    del views, large


def test_small_tensors_are_one_line():
    """Where nothing large is alive, a line says so."""

    class Nothing:
        device = torch.device("meta")
        models, optimizers, ema, active = {}, {}, None, None

    assert memory.table(Nothing()) == ["the tensors that are alive hold 0 bytes"]
