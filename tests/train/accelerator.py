"""A CPU that is treated as an accelerator: the way of a GPU's turns, where there is none.

Losses stay tensors, batches are fetched ahead, their rows brought there, and a captured step is made of
graphs that are recorded without running and replayed in the same memory. What is special about a device
(streams, its allocator, its own generator) is not seen here; ``test_cuda.py`` has the same tests for one.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext

import pytest
import torch

from loopwright.train.capture import fixed, moving, step
from loopwright.train.capture.cuda import CudaShape
from loopwright.train.capture.record import Recording, Refused
from loopwright.train.capture.simplify import tensors
from loopwright.train.capture.state import State
from loopwright.train.data.transfer import Transfer
from loopwright.train.loop import Loop


class Graph:
    """Operations that write what they make where it was made when they were recorded.

    ``noise`` is a share of what products of matrices make: another sum at each replay, as of kernels that
    add up in the order in which their threads come.
    """

    noise = 0.0

    def __init__(self):
        self.operations = []
        self.replays = 0

    def replay(self):
        """Run them."""
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for operation in self.operations:
                names = [a.name for a in operation.function._schema.arguments]
                given = dict(zip(names, operation.arguments, strict=True))
                schema = operation.function._schema.arguments
                made = operation.function(
                    *[given[a.name] for a in schema if not a.kwarg_only],
                    **{a.name: given[a.name] for a in schema if a.kwarg_only},
                )
                if self.noise and operation.function is torch.ops.aten.mm.default:
                    made = made * (1 + self.noise * math.sin(self.replays))
                known = {t.untyped_storage().data_ptr() for t in tensors(operation.arguments)}
                for new, old in zip(tensors(made), tensors(operation.outputs), strict=True):
                    if old.untyped_storage().data_ptr() not in known:
                        old.copy_(new)


class Graphs:
    """Stands for `CudaGraphs`: records what runs, and puts back what kernels have changed."""

    def __init__(self, run):
        self._run = run
        self.all = []

    def warming_up(self):
        """There is nothing to warm up."""
        return nullcontext()

    @contextmanager
    def recorded(self):
        """Record a block."""
        graph, recording, before = Graph(), Recording(), State(self._run, python=False)
        try:
            with recording:
                yield graph
        finally:
            before.put_back()
        if recording.why_not is not None:
            raise Refused(f"CUDA does not record it: {recording.why_not}")
        graph.operations = recording.operations
        self.all.append(graph)


def counts_on_the_host(optimizer, device):
    """Whether its counters would be on the host where its parameters are on a device."""
    counts = any("step" in state for state in optimizer.state.values())
    return counts and not all(group.get("fused") for group in optimizer.param_groups)


def finite_turns(monkeypatch, owner, name):
    """How many turns each call of a method of several turns made that were finite."""
    counts = []
    before = getattr(owner, name)

    def counted(self, batches, rows):
        losses, norms = before(self, batches, rows)
        counts.append(len(losses))
        return losses, norms

    monkeypatch.setattr(owner, name, counted)
    return counts


@pytest.fixture
def at_once(monkeypatch):
    """How many turns each call of several made that were finite; some are made again one by one."""
    return finite_turns(monkeypatch, CudaShape, "_at_once")


@pytest.fixture
def accelerator(monkeypatch):
    """Let runs on the CPU go the way of an accelerator; returns the graphs of all runs."""
    made = []

    def graphs(captured):
        made.append(Graphs(captured._run))
        return made[-1]

    begin = Loop.__init__

    def begins(loop, run, source, limits, name):
        begin(loop, run, source, limits, name)
        loop._on_cpu = run.stepper.reads_at_once = False
        if source.quiet:
            loop._look_ahead = True
            source.look_ahead()
            source.send_chunks(run.transfer.rows)

    monkeypatch.setattr(Loop, "__init__", begins)
    monkeypatch.setattr(Transfer, "room", lambda _: 1 << 20)
    monkeypatch.setattr(Transfer, "copies", lambda _, parts: [part.clone() for part in parts])
    monkeypatch.setattr(
        Transfer,
        "gathered",
        lambda _, parts, indices: [
            part.index_select(0, index) for part, index in zip(parts, indices, strict=True)
        ],
    )
    monkeypatch.setattr(step, "Shape", CudaShape)
    monkeypatch.setattr(fixed, "counts_on_the_host", counts_on_the_host)
    monkeypatch.setattr(step, "CudaGraphs", None)
    cached = type(step.CapturedStep.__dict__["graphs"])(graphs)
    cached.__set_name__(step.CapturedStep, "graphs")
    monkeypatch.setattr(step.CapturedStep, "graphs", cached)
    return made


def added(these, others, alpha):
    """The sum with one rounding."""
    for one, other in zip(these, others, strict=True):
        one.copy_(one.double() + other.double() * alpha.double())


def quotients_added(these, above, below, by):
    """Torch's order on a CPU: the number times what is above."""
    for one, over, under in zip(these, above, below, strict=True):
        one.add_(over * moving._alike(by) / under)


@pytest.fixture
def kernels(accelerator, monkeypatch):
    """Kernels for updates whose numbers move that have the bits of torch's on a CPU."""
    others = {
        torch.ops.aten._foreach_add_.List: added, torch.ops.aten._foreach_addcdiv_.Scalar: quotients_added,
        torch.ops.aten._foreach_addcdiv_.ScalarList: quotients_added,
    }  # fmt: skip
    monkeypatch.setattr(moving, "KERNELS", moving.KERNELS | others)
