"""On a GPU: the plain loop's bits, prefetched batches that stay what they were, and no hidden waits."""

from __future__ import annotations

import gc

import plain
import pytest
import torch
from material import equal, prepared, quiet_run, run_loop, tensors, valid_loader
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]

CRITERION = nn.CrossEntropyLoss()

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw capturable": lambda p: torch.optim.AdamW(p, lr=0.01, capturable=True),
}


class ToDevice:
    """A loader for the plain loop, which moves each batch by hand."""

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for data, labels in self.loader:
            yield data.cuda(), labels.cuda()


def on_gpu(make_optimizer, **kinds):
    """Return a model on the GPU, its optimizer and a loader; seeded after the move."""
    model, _, loader = prepared(make_optimizer, **kinds)
    model.cuda()
    optimizer = make_optimizer(model.parameters())
    lw.seed(0)
    return model, optimizer, loader


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_run_is_the_plain_loop(name, workers):
    """Dropout from the GPU's generator, shuffling and prefetching: the plain loop's bits."""
    hand, optimizer, loader = on_gpu(OPTIMIZERS[name], workers=workers)
    plain.train(hand, optimizer, ToDevice(loader), 3, CRITERION)
    ours, optimizer, loader = on_gpu(OPTIMIZERS[name], workers=workers)
    run_loop(ours, optimizer, loader, 3, CRITERION)
    assert equal(ours, hand)
    other, optimizer, loader = on_gpu(OPTIMIZERS[name], workers=workers)
    torch.cuda.manual_seed(1)
    run_loop(other, optimizer, loader, 3, CRITERION)
    assert not equal(other, hand), "another seed would be seen"


@pytest.mark.parametrize("mid", [False, True])
def test_evaluation_leaves_no_trace(mid):
    """Evaluating draws nothing from the GPU's generator either."""
    hand, optimizer, loader = on_gpu(OPTIMIZERS["adamw"])
    plain.train(hand, optimizer, ToDevice(loader), 3, CRITERION)
    ours, optimizer, loader = on_gpu(OPTIMIZERS["adamw"])
    run_loop(ours, optimizer, loader, 3, CRITERION, evaluate=valid_loader(), mid=mid)
    assert equal(ours, hand)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precisions(precision, clip):
    """bf16 and fp16 (its first scale overflows) give the bits of the autocast loop by hand."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def criterion(outputs, labels):
        return 20 * CRITERION(outputs, labels)

    hand, optimizer, loader = on_gpu(OPTIMIZERS["sgd"])
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    for _ in range(3):
        for data, labels in ToDevice(loader):
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=dtype):
                loss = criterion(hand(data), labels)
            scaler.scale(loss).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(hand.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
    ours, optimizer, loader = on_gpu(OPTIMIZERS["sgd"])
    run = run_loop(ours, optimizer, loader, 3, criterion, precision=precision, clip=clip)
    assert equal(ours, hand)
    if precision == "fp16":
        assert run.precision.scaler.get_scale() == scaler.get_scale()


def test_prefetched_batches_stay_what_they_were():
    """While kernels still wait to read a batch, no later copy is written into its memory."""
    torch.manual_seed(0)
    data = torch.randn(64, 512, 64)
    model = nn.Linear(64, 1)
    run = quiet_run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    sums, kept = [], []
    for step in run.loop(DataLoader(TensorDataset(data), batch_size=1), epochs=1):
        (batch,) = step.batch
        torch.cuda._sleep(5_000_000)  # the reader below is late
        sums.append(batch.sum(dtype=torch.float64))
        if step.index % 8 == 0:
            kept.append((step.index, batch))
        del batch
        step.batch = None
    found = torch.stack(sums).cpu()
    expected = torch.stack([part.sum(dtype=torch.float64) for part in data])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)
    assert all(torch.equal(batch.cpu()[0], data[index]) for index, batch in kept)


class Collecting(torch.utils.data.Dataset):
    """Collects garbage where a sample is loaded."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        gc.collect()
        return torch.full((1,), float(index))


def test_workers_leave_the_gpus_garbage_alone():
    """A forked worker that collects garbage does not free this process's tensors on the GPU."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        here, stream = torch.ones(1 << 20, device="cuda"), torch.cuda.Stream()
        here.record_stream(stream)  # freeing it asks the driver
        circle = [here]
        circle.append(circle)
        del here, circle
        model = nn.Linear(1, 1)
        run = quiet_run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
        batches = DataLoader(Collecting(), batch_size=4, num_workers=1)
        for step in run.loop(batches, epochs=1):
            step.backward(run.model(step.batch).mean())
            step.update()
    finally:
        if collecting:
            gc.enable()
    assert run.totals["turns"] == 2


def test_backward_and_log_do_not_wait():
    """``backward`` with a weight on the GPU, and ``log``, start no synchronisation."""
    inputs, labels = (part.cuda() for part in tensors())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    run = quiet_run(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulate=2
    )
    weight = torch.tensor(7.0, device="cuda")
    for step in run.loop([(inputs, labels)] * 6, epochs=1):
        loss = CRITERION(run.model(inputs), labels)
        torch.cuda.set_sync_debug_mode("error" if step.index > 1 else "default")
        try:
            step.backward(loss, weight=weight)
            step.log(loss_again=loss, mean=inputs.mean())
            if not step.updates:
                step.update()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if step.updates:
            step.update()
    assert run.totals["updates"] == 3


def test_accumulation_is_the_full_batch():
    """In float64 on the GPU, ragged windows give the full batch's gradients to 1e-12."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1).double()
    run = quiet_run(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), accumulate=3
    )
    data = [torch.randn(n, 8, dtype=torch.float64) for n in (9, 2, 4)]
    for step in run.loop(data, epochs=1):
        weight = torch.tensor(len(step.batch), device="cuda")
        step.backward(run.model(step.batch).square().mean(), weight=weight)
        if step.updates:
            (found, _) = step.gradients()
            found = found.clone()
        step.update()
    whole = torch.cat(data).cuda()
    (expected,) = torch.autograd.grad(model(whole).square().mean(), [model.weight])
    assert (found - expected).abs().max() < 1e-12
