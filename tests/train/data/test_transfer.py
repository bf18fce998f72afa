"""Batches on their way to the device."""

from __future__ import annotations

import pytest
import torch
from small import loader, make, turn
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.data.transfer import Transfer

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_cpu_passes_on():
    """On the CPU a batch is handed on as the very same object, with nothing to wait for."""
    transfer = Transfer(torch.device("cpu"))
    batch = {"x": torch.ones(2)}
    assert transfer.receive(transfer.send(batch)) is batch


def test_loop_hands_on_the_loaders_batch():
    """On the CPU step.batch is what the loader gave, no copy."""
    run, batches = make(device="cpu"), list(loader())
    for step in run.loop(batches, epochs=1):
        assert step.batch is batches[step.index]
        turn(run, step)


def test_device_without_streams():
    """A device without streams gets the batch at once."""
    transfer = Transfer(torch.device("cpu"))
    transfer.device = torch.device("meta")
    transfer._module = object()  # there is a device module, and it has no streams
    moved = transfer.receive(transfer.send([torch.ones(2), "text"]))
    assert moved[0].device.type == "meta"
    assert moved[1] == "text"


@cuda
@pytest.mark.gpu
def test_overlap_is_safe():
    """Many copies in flight under slow kernels: no batch is overwritten while it is still read.

    Without ``record_stream`` the allocator hands a batch's memory to a later copy as soon as Python
    drops it, while kernels that read it still wait in the queue.
    """
    device = torch.device("cuda", torch.cuda.current_device())
    transfer = Transfer(device)
    size = 1 << 20
    sums = []
    ahead = transfer.send(torch.full((size,), 0.0))
    for i in range(1, 60):
        batch = transfer.receive(ahead)
        ahead = transfer.send(torch.full((size,), float(i)))
        torch.cuda._sleep(2_000_000)  # the kernel that reads the batch waits behind this
        sums.append(batch.sum())
        del batch
    assert [round(s.item() / size) for s in sums] == list(range(59))


@cuda
@pytest.mark.gpu
def test_host_memory_is_kept_until_it_is_copied():
    """The pinned host copy lives until the device has read it."""
    device = torch.device("cuda", torch.cuda.current_device())
    transfer = Transfer(device)
    with torch.cuda.stream(transfer._stream):
        torch.cuda._sleep(50_000_000)  # copies wait behind this
    sent = [transfer.send(torch.full((1 << 18,), float(i))) for i in range(20)]
    for i, one in enumerate(sent):
        assert transfer.receive(one).unique().tolist() == [float(i)]


@cuda
@pytest.mark.gpu
def test_what_is_there_is_not_copied():
    """A tensor that is on the device already stays the same object; one of another layout travels."""
    device = torch.device("cuda", torch.cuda.current_device())
    transfer = Transfer(device)
    here = torch.ones(3, device=device)
    sparse = torch.eye(3).to_sparse()
    batch = transfer.receive(transfer.send({"here": here, "sparse": sparse, "text": "x"}))
    assert batch["here"] is here
    assert batch["sparse"].device == device
    assert batch["text"] == "x"


@cuda
@pytest.mark.gpu
def test_loop_on_a_gpu():
    """A loop's batches arrive on the device, with the loader's values and in its order."""
    run, batches = make(), list(loader())
    for step in run.loop(batches, epochs=2):
        x, y = step.batch
        assert x.device == y.device == run.device
        assert torch.equal(x.cpu(), batches[step.index % 6][0])
        turn(run, step)


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True])
def test_rows_are_safe(resident):
    """Batches that are cut from rows on the device stay what they were while slow kernels read them."""
    device = torch.device("cuda", torch.cuda.current_device())
    transfer = Transfer(device)
    if not resident:
        transfer.room = lambda: 0
    data = torch.arange(1 << 20, dtype=torch.float32).reshape(1 << 14, 64)
    sums, expected = [], []
    for number in range(60):
        index = torch.randperm(len(data))[:4096]
        batch = list(transfer.rows((data,), index))
        if number % 2:
            batch = transfer.receive(transfer.send(batch))
        else:
            transfer.hold([batch])
        torch.cuda._sleep(500_000)
        sums.append(batch[0].double().sum())
        expected.append(data[index].double().sum())
        del batch
    assert torch.equal(torch.stack(sums).cpu(), torch.stack(expected))
    assert bool(transfer.rows._copies) == resident


@cuda
@pytest.mark.gpu
def test_data_that_are_on_the_device():
    """A data set whose tensors are on the GPU is gathered there; the batches are the plain loader's."""
    x, y = torch.randn(200, 8, device="cuda"), torch.arange(200, device="cuda")
    batches = DataLoader(TensorDataset(x, y), 16, shuffle=True)
    torch.manual_seed(0)
    plain = list(batches)
    net = nn.Linear(8, 1, device="cuda")
    run = lw.Run(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), progress=False)
    torch.manual_seed(0)
    for step, (inputs, targets) in zip(run.loop(batches, epochs=1), plain, strict=True):
        assert torch.equal(step.batch[0], inputs)
        assert torch.equal(step.batch[1], targets)
        step.skip()
