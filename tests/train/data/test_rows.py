"""Rows of a data set on a device: from the host, or from a copy that is there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data._utils import pin_memory

import loopwright as lw
from loopwright.train.data.rows import GATHERED_HERE, GATHERED_THERE, Rows

KILOBYTE = torch.arange(1024 * 64, dtype=torch.float32).reshape(1024, 64)


class Device:
    """Stands for a `Transfer`: notes what it was asked for."""

    def __init__(self, room):
        self._room = room
        self.asked = []

    def room(self):
        return self._room

    def chunk(self, parts):
        self.asked.append("sent")
        return parts

    def copies(self, parts):
        self.asked.append("copied")
        return [part.clone() for part in parts]

    def gathered(self, parts, indices):
        self.asked.append("gathered")
        return [part.index_select(0, index) for part, index in zip(parts, indices, strict=True)]


def index(first, count=128):
    """So many rows."""
    return torch.arange(first, first + count)


def test_copied_once_a_quarter_was_sent():
    """The rows are the same either way, and larger pieces are asked for where the device gathers."""
    device, tensors = Device(1 << 30), (KILOBYTE, KILOBYTE[:, 0].long())
    rows = Rows(device)
    assert rows.at_once == GATHERED_HERE
    for first in range(0, 1024, 128):
        got = rows(tensors, [index(first)] * len(tensors))
        assert all(
            torch.equal(a, b[first : first + 128]) for a, b in zip(got, tensors, strict=True)
        )
    assert device.asked == ["sent", "sent", "copied", *["gathered"] * 6]
    assert rows.at_once == GATHERED_THERE


@pytest.mark.parametrize("room", [0, KILOBYTE.nbytes - 1])
def test_too_large(room):
    """No copy is made where it takes more than its share."""
    device = Device(room)
    rows = Rows(device)
    for first in range(0, 1024, 128):
        rows((KILOBYTE,), [index(first)])
    assert device.asked == ["sent"] * 8


def test_data_that_are_written_to():
    """A copy of what somebody writes to is given up, and not made again."""
    device, data = Device(1 << 30), KILOBYTE.clone()
    rows = Rows(device)
    for first in (0, 128, 256):
        rows((data,), [index(first)])
    data[384] = -1
    for first in (384, 512):
        (got,) = rows((data,), [index(first)])
        assert torch.equal(got, data[first : first + 128])
    assert device.asked == ["sent", "sent", "copied", "gathered", "sent", "sent"]


def test_a_row_that_is_not_there():
    """The host says so; a device would break down."""
    device = Device(1 << 30)
    rows = Rows(device)
    for first in (0, 128, 256):
        rows((KILOBYTE,), [index(first)])
    with pytest.raises(IndexError):
        rows((KILOBYTE,), [index(1000)])
    assert device.asked[-1] == "gathered"


def test_tensors_of_other_lengths():
    """A row that one of them lacks is asked of the host, too."""
    device, tensors = Device(1 << 30), (KILOBYTE, KILOBYTE[:500])
    rows = Rows(device)
    for first in (0, 128):
        rows(tensors, [index(first)] * 2)
    with pytest.raises(IndexError):
        rows(tensors, [index(384)] * 2)
    assert "gathered" not in device.asked


def test_let_go():
    """A run that is closed holds no copy."""
    rows = Rows(Device(1 << 30))
    for first in (0, 128, 256):
        rows((KILOBYTE,), [index(first)])
    assert rows._copies
    rows.forget()
    assert not rows._copies


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_a_loader_that_pins(accelerator, monkeypatch):
    """What is on the device is not pinned: ``pin_memory=True`` is for what comes from the host."""
    pinned = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(
        pin_memory, "pin_memory", lambda batch, _=None: pinned.append(batch) or batch
    )
    net = nn.Linear(64, 1)
    data = TensorDataset(KILOBYTE, torch.zeros(1024, 64))
    run = lw.Run(
        model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False, device="cpu"
    )  # fmt: skip
    for step in run.loop(DataLoader(data, 64, shuffle=True, pin_memory=True), epochs=2):
        step.skip()
    assert not pinned


def test_batches_between_which_there_are_gaps():
    """Each tensor's rows are its own ones, from the host and from the device."""
    device, tensors = Device(1 << 30), (KILOBYTE, KILOBYTE[:, 0].long())
    rows = Rows(device)
    for first in (0, 128, 256, 384):
        some, others = index(first), index(first, 64)
        pixels, labels = rows(tensors, [some, others])
        assert torch.equal(pixels, KILOBYTE[some])
        assert torch.equal(labels, tensors[1][others])
    assert device.asked[-1] == "gathered"


def test_another_data_set():
    """Rows of another one come from that."""
    device, other = Device(1 << 30), -KILOBYTE
    rows = Rows(device)
    for first in (0, 128, 256):
        rows((KILOBYTE,), [index(first)])
    (got,) = rows((other,), [index(0)])
    assert torch.equal(got, other[:128])
    assert device.asked[-1] == "sent"


@pytest.mark.parametrize("writes", [False, True])
def test_the_loops_batches(accelerator, writes):
    """What the loop hands out is what the loader gives, over epochs, also while the body writes to it."""

    def batches(through):
        lw.seed(0)
        data = TensorDataset(KILOBYTE.clone(), torch.arange(1024))
        loader, given = DataLoader(data, 64, shuffle=True), []
        for step in through(loader):
            inputs, targets = getattr(step, "batch", step)
            given.append((inputs.clone(), targets.clone()))
            if writes and len(given) == 20:
                data.tensors[0].mul_(2)
            if step is not inputs and hasattr(step, "skip"):
                step.skip()
        return given

    net = nn.Linear(64, 1)
    run = lw.Run(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False)
    ours = batches(lambda loader: run.loop(loader, epochs=3))
    plain = batches(lambda loader: (batch for _ in range(3) for batch in loader))
    assert bool(run.transfer.rows._copies) != writes
    # A batch that was fetched ahead is from before the write.
    differs = [
        n for n, (a, b) in enumerate(zip(ours, plain, strict=True)) if not torch.equal(a[0], b[0])
    ]
    assert differs == ([20] if writes else [])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(ours, plain, strict=True))
