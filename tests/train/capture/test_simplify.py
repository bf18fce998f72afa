"""What is left out of a recording changes no result."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.train.capture.graph import Graph
from loopwright.train.capture.record import Operation, Recording
from loopwright.train.capture.scalars import Number
from loopwright.train.capture.simplify import SMALL, is_a_view, simplified


def recorded(fn):
    """The operations of a function of no arguments, and what it returned."""
    with Recording() as recording:
        made = fn()
    return recording.operations, made


def names(operations):
    """What the operations are called."""
    return [operation.function._schema.name.partition("::")[2] for operation in operations]


def test_numbers_that_are_filled_in():
    """A small tensor of always the same numbers is kept; a large one, and one that is written to, is not."""
    x = torch.arange(3.0)

    def fn():
        whole = torch.zeros(SMALL + 1)
        written = torch.ones_like(x)
        written[1:].add_(x[1:])
        return x * torch.full_like(x, 2.0) + written + whole[:3]

    operations, made = recorded(fn)
    left, _ = simplified(operations, [made])
    assert "full_like" in names(operations)
    assert "full_like" not in names(left)
    assert {"zeros", "ones_like"} <= set(names(left))
    graph = Graph(operations, [x], [made])
    for _ in range(2):
        assert torch.equal(graph([x]), torch.tensor([2.0 * 0 + 1, 2 + 2, 4 + 3]))


def test_what_is_handed_out():
    """Nobody may write into what the next turn takes for its own."""
    operations, made = recorded(lambda: torch.ones(3))
    left, outputs = simplified(operations, [made])
    assert names(left) == ["ones"]
    assert outputs[0].data_ptr() == made.data_ptr()


def test_a_conjugate():
    """It shows the same memory, and is to be read with the other sign."""
    z = torch.complex(torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0]))
    operations, made = recorded(lambda: (z * z.conj()).real + z.conj().imag)
    assert "_conj" in names(operations)
    assert torch.equal(Graph(operations, [z], [made])([z]), made)


def test_a_number_that_moves():
    """A tensor of the learning rate is made in each turn."""
    made = torch.full((), 0.5)
    function = torch.ops.aten.scalar_tensor.default
    rate = Number(0.5)
    rate.place = 0
    for number, count in ((rate, 1), (0.5, 0)):
        fills = Operation(function, [number, None, None, None, None], made)
        twice = Operation(torch.ops.aten.mul.Tensor, [made, made], made * made)
        assert len(simplified([fills, twice], [twice.outputs])[0]) == 1 + count


def test_names():
    """A view of a view that shows the tensor as it was is the tensor; what only led there is not made."""
    x = torch.randn(3, 4)
    operations, made = recorded(lambda: torch.relu(x.t().t().view(3, 4)) + 1)
    left, _ = simplified(operations, [made])
    assert names(left) == ["relu", "add"]
    assert torch.equal(Graph(operations, [x], [made])([-x]), torch.relu(-x) + 1)
    operations, made = recorded(lambda: x.t())
    left, outputs = simplified(operations, [made])
    assert [is_a_view(one) for one in left] == [True]
    assert outputs[0] is made


def test_a_parameter_that_has_other_memory():
    """Views of parameters are made anew in each call: ``data`` may be another tensor's meanwhile."""
    results = []
    for capture in (None, "exact"):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        data = TensorDataset(torch.randn(64 * 20, 8), torch.randint(4, (64 * 20,)))

        def moved(event, net=net):
            if event.epoch == 3:
                for parameter in net.parameters():
                    parameter.data = parameter.data.clone()

        lw.fit(
            net, torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss(),
            DataLoader(data, 64, shuffle=True), epochs=8, capture=capture, progress=False,
            callbacks=[lambda run, moved=moved: run.on("epoch_begin", moved)],
        )  # fmt: skip
        results.append([p.detach().clone() for p in net.parameters()])
    assert all(map(torch.equal, *results))
