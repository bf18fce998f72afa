"""What a graph keeps and what backward frees, against hooks in plain torch and the variables that hold it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from explainer.recorded import recorded_here
from loopwright.explainer.effects.saved import Saved
from loopwright.report.explain_html import readouts
from loopwright.report.formats import size


def frozen(layer):
    """A layer that learns nothing: the graph saves its weight, which is no leaf of it."""
    return layer.requires_grad_(False)


def half(x):
    """Squares of the first rows: a part of a storage is saved, twice."""
    return x[:8] * x[:8]


def build():
    """A model and data whose batches are views of all of it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), frozen(nn.Linear(8, 8)), nn.ReLU()
    )
    return model, torch.randn(64, 6)


def nothing_held(model, data):
    """Only the batch is the program's; the rest dies with the graph."""
    return half(model(data)).sum()


class Holding:
    """The program goes on holding what its model returned, of which the graph saved a part."""

    hidden = None

    def __call__(self, model, data):
        """A loss."""
        self.hidden = model(data)
        return half(self.hidden).mean()


def train(loss_of, retain, seen=None):
    """Three steps; ``seen`` is told of the loss of each and of what the program holds."""
    model, pixels = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for data in pixels.split(16):
        optimizer.zero_grad()
        if seen is not None:
            seen.clear()
            with torch.autograd.graph.saved_tensors_hooks(seen.pack, lambda one: one):
                loss = loss_of(model, data)
            held = [data, getattr(loss_of, "hidden", None)]
            seen.count([*model.parameters(), *model.buffers()], held)
        else:
            loss = loss_of(model, data)
        loss.backward(retain_graph=retain)
        optimizer.step()


class Truth:
    """Bytes of each storage that was saved, one by one, and whether a variable holds it."""

    def __init__(self):
        self.bytes, self.whole = {}, {}

    def clear(self):
        """Another step."""
        self.bytes.clear()
        self.whole.clear()

    def pack(self, tensor):
        """Note each byte of a tensor by its address."""
        storage = tensor.untyped_storage()
        width = tensor.element_size()
        places = torch.arange(storage.nbytes() // width).as_strided(
            tensor.shape, tensor.stride(), tensor.storage_offset()
        )
        here = self.bytes.setdefault(storage.data_ptr(), set())
        here |= {(place, at) for place in places.flatten().tolist() for at in range(width)}
        self.whole[storage.data_ptr()] = storage.nbytes()
        return tensor

    def count(self, aside, held):
        """Add up, with what the program holds."""
        aside, held = (
            {one.untyped_storage().data_ptr() for one in some if one is not None}
            for some in (aside, held)
        )
        self.kept = {key: len(found) for key, found in self.bytes.items() if key not in aside}
        self.alone = {key: self.whole[key] for key in self.kept if key not in held}


@pytest.mark.parametrize("loss_of", [nothing_held, Holding()])
def test_kept_and_freed(loss_of):
    """A batch counts as itself, not as all data, and is not freed; what the graph alone held is, whole."""
    truth = Truth()
    train(loss_of, retain=False, seen=truth)
    seen = recorded_here(lambda: train(loss_of, retain=False), steps=3, timed=0)
    for each in seen.steps:
        (graph,) = each.graphs
        assert graph.freed_bytes == sum(truth.alone.values())
        assert graph.saved_bytes == sum((truth.kept | truth.alone).values())
        assert graph.saved_bytes - graph.freed_bytes >= 16 * 6 * 4
        assert graph.saved_bytes == sum(graph.node_bytes) == graph.groups[0].bytes
        facts = next(e.facts for one in each.lines for e in one.events if e.kind == "backward")
        assert "data" in facts["still"]
        assert "pixels" not in facts["still"]
        assert (facts["saved_bytes"], facts["freed_bytes"]) == (
            graph.saved_bytes,
            graph.freed_bytes,
        )


def test_a_kept_graph_frees_nothing():
    """With ``retain_graph`` each saved tensor counts as the part that it is."""
    truth = Truth()
    train(nothing_held, retain=True, seen=truth)
    seen = recorded_here(lambda: train(nothing_held, retain=True), steps=1, timed=0)
    (graph,) = seen.steps[0].graphs
    assert (graph.saved_bytes, graph.freed_bytes) == (sum(truth.kept.values()), 0)


def test_overlapping_parts_count_once():
    """Parts of one storage that overlap, touch or lie apart."""
    x = torch.arange(20.0, requires_grad=True) * 1
    parts = [(0, 5), (3, 8), (8, 10), (15, 20), (9, 16)]
    losses = [x[a:b].square() for a, b in parts]
    saved = Saved([])
    for one in losses:
        saved.add(one.grad_fn)
    found, alive = saved.count(at=1 << 40, kept=False)
    assert [size for size, _ in found] == [5 * 4, 3 * 4, 2 * 4, 5 * 4, 5 * 4]
    assert (len(alive), saved.freed) == (1, 0)


def in_parts(model, data, backward):
    """Micro-batches: each graph is gone before the next is made."""
    for part in data.split(4):
        backward(half(model(part)).sum())


def of_two_sizes(model, data, backward):
    """The larger micro-batch stands in the middle."""
    for part in data.split((2, 11, 3)):
        backward(half(model(part)).sum())


def side_by_side(model, data, backward):
    """Two graphs are there before either is run backward, and both saved the batch."""
    first, second = half(model(data)).sum(), half(model(data * 2)).mean()
    backward(first)
    backward(second)


def on_one_trunk(model, data, backward):
    """Two losses share most of their graph, so the first leaves it there for the second."""
    tops = [model(data)]
    first, second = half(tops[0]).sum(), (tops[0] * tops[0].detach()).mean()
    tops.clear()
    backward(first, retain_graph=True)
    backward(second)


def retained_for_nothing(model, data, backward):
    """Each graph is kept until the next loss takes the name of the last."""
    for part in data.split(4):
        loss = half(model(part)).sum()
        backward(loss, retain_graph=True)
    del loss


class AtOneTime:
    """Whole storages that graphs keep, counted anew with each that is saved; those of others aside."""

    def __init__(self, model, data):
        aside = [*model.parameters(), *model.buffers(), data]
        self.aside = {one.untyped_storage().data_ptr() for one in aside}
        self.kept, self.most = [], 0

    def pack(self, tensor):
        """What lives now, and this one."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.aside:
            self.kept.append((StorageWeakRef(storage), storage.nbytes()))
        alive = {one.cdata: size for one, size in self.kept if not one.expired()}
        self.most = max(self.most, sum(alive.values()))
        return tensor.detach()  # itself, it would hold the graph that holds it


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(in_parts, marks=pytest.mark.long),
        of_two_sizes,
        side_by_side,
        on_one_trunk,
        pytest.param(retained_for_nothing, marks=pytest.mark.long),
    ],
)
def test_what_is_kept_at_one_time(turn):
    """The most that graphs of a step held at any one moment, as weak references to storages say."""
    model, pixels = build()
    truth = AtOneTime(model, pixels)
    with torch.autograd.graph.saved_tensors_hooks(truth.pack, lambda one: one):
        turn(model, pixels[:16], torch.Tensor.backward)

    def train():
        model, pixels = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for data in pixels.split(16):
            turn(model, data, torch.Tensor.backward)
            optimizer.step()
            optimizer.zero_grad()

    seen = recorded_here(train, steps=2, timed=0)
    for one in seen.steps:
        assert one.alone_bytes == truth.most
        assert one.kept_bytes >= one.alone_bytes
        summed = sum(graph.saved_bytes for graph in one.graphs)
        assert one.kept_bytes < summed or turn is side_by_side
        shown = {label: value for label, value, _ in readouts(seen, [one], one)}
        assert shown["kept for backward"] == size(one.kept_bytes)


def test_what_goes_through_hooks_is_not_read():
    """Reading it would run the program's hooks: checkpointing would compute its blocks again."""
    calls = []

    def block(x, weight):
        calls.append(1)
        return (x @ weight).softmax(1).exp()

    def train():
        torch.manual_seed(0)
        weight = torch.randn(6, 6, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for x in torch.randn(3, 16, 6):
            optimizer.zero_grad()
            hidden = checkpoint(block, x, weight, use_reentrant=False)
            hidden.square().mean().backward()
            optimizer.step()

    seen = recorded_here(train, steps=2, timed=0, whatifs=False)
    assert len(calls) == 2 * 3  # forward, and once more in backward
    (backward,) = [event for line in seen.steps[0].lines for event in line.events
                   if event.kind == "backward"]  # fmt: skip
    assert backward.facts["hooked"] >= 3
    told = " ".join(one for line in seen.steps[0].lines for one in line.sentences)
    assert "keep their tensors through hooks" in told
