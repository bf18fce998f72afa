"""Batches on their way to the device."""

from __future__ import annotations

import pytest
import torch
from small import loader, make, turn

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
