"""Values wait on their device: recording reads nothing, and the host is visited twice a second."""

from __future__ import annotations

import itertools

import pytest
import torch
from material import quiet_run
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from loopwright.train import loop as loop_module
from loopwright.train.folder.history import History


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is read on the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def as_on_an_accelerator(run, loader, **limits):
    """Return a loop that keeps values as tensors, as it does where reading them means waiting."""
    loop = run.loop(loader, **limits)
    loop._on_cpu = False
    return loop


def linear(**settings):
    """Return a run over a small model."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    return quiet_run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **settings)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"clip": 0.1}, {"ema": 0.9}])
def test_backward_and_log_read_nothing(settings):
    """``backward`` with a weight on the device, and ``log``, read no value; an update reads the norm."""
    run = linear(**settings)
    counts = []
    data = [torch.randn(3, 4) for _ in range(4)]
    for step in as_on_an_accelerator(run, data, epochs=1):
        loss = run.model(step.batch).square().mean()
        weight = torch.tensor(3)
        with Reads() as before:
            step.backward(loss, weight=weight)
            step.log(value=torch.ones((), device="meta") if step.index == 0 else 1.0)
        with Reads() as update:
            step.update()
        counts.append((before.count, update.count))
        if step.index == 0:  # a tensor without a value: reading it would be an error
            ((_, name, _),) = run.active.values.waiting
            assert name == "value"
            run.active.values.waiting.clear()
    window = settings.get("accumulate", 1)
    assert counts == [(0, 1 if (i + 1) % window == 0 else 0) for i in range(4)]


def test_a_read_would_be_seen():
    """The counter counts: ``loss.item()`` is one read."""
    with Reads() as reads:
        torch.ones(()).item()
    assert reads.count == 1


def test_the_host_is_visited_twice_a_second(monkeypatch):
    """In ten seconds of turns, losses and logged values come to the host 20 times, and at the end."""
    now = 0.0
    monkeypatch.setattr(loop_module, "perf_counter", lambda: now)
    visits = []
    flush = History.flush
    monkeypatch.setattr(History, "flush", lambda self, *a: (visits.append(now), flush(self, *a))[1])
    run = linear()
    for step in as_on_an_accelerator(run, [torch.randn(3, 4)] * 400, epochs=1):
        step.backward(run.model(step.batch).square().mean())
        step.log(value=step.batch.mean())
        step.update()
        now += 0.025
    between = [b - a for a, b in itertools.pairwise(visits)]
    inside = [gap for gap, at in zip(between, visits[1:], strict=True) if at < now]
    assert 18 <= len(visits) <= 22
    assert min(inside) >= loop_module.HOST_EVERY == 0.5
    assert len(run.history.series["loss"].y) == 400
    assert run.history.series["value"].x == list(range(1, 401))
