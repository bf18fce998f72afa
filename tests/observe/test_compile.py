"""Compiled models, functions and losses train the same under observation, and nothing breaks the graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from loopwright.checker.session import Session

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    # Dynamo's own look at a resumed function's variables, with and without observation.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


@pytest.fixture(autouse=True)
def nothing_stays_compiled():
    """Where something is compiled, operations are not noted: other tests look at them."""
    yield
    torch._dynamo.reset()
    torch._dynamo.eval_frame.cached_backends.clear()


def train(wrap):
    """Losses of a few steps with ``wrap(model)``."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_of = wrap(model)
    losses = []
    for _ in range(4):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        loss = loss_of(x, (x[:, 0] > 0).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compiled_model(model):
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    return lambda x, y: F.cross_entropy(compiled(x), y)


def compiled_loss(model):
    return torch.compile(
        lambda x, y: F.cross_entropy(model(x), y), fullgraph=True, backend="aot_eager"
    )


def compiled_criterion(model):
    criterion = nn.CrossEntropyLoss()
    return torch.compile(lambda x, y: criterion(model(x), y), fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("wrap", [compiled_model, compiled_loss, compiled_criterion])
def test_fullgraph(wrap):
    """``fullgraph=True`` compiles under observation and gives the same losses."""
    alone = train(wrap)
    session = Session()
    session.start()
    seen = train(wrap)
    session.end()
    assert session.observer.failure is None
    assert seen == alone


def test_whole_step():
    """A compiled function with zero_grad, backward and step inside gives the same losses."""

    def run():
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @torch.compile(backend="aot_eager")
        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return [step(torch.randn(8, 4), torch.zeros(8, dtype=torch.long)).item() for _ in range(4)]

    alone = run()
    session = Session()
    session.start()
    seen = run()
    session.end()
    assert session.observer.failure is None
    assert seen == alone


def test_item_inside_a_graph():
    """``.item()`` in a compiled function does not fail because its method is hooked."""

    def run():
        torch._dynamo.reset()
        compiled = torch.compile(lambda x: x * x.sum().item(), backend="aot_eager")
        return compiled(torch.ones(3)).tolist()

    session = Session()
    session.start()
    seen = run()
    session.end()
    assert seen == run() == [3.0, 3.0, 3.0]


class Inside(nn.Module):
    """Whose compiled part is first called in a forward that is being recorded."""

    def __init__(self, backend):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.part = torch.compile(self.attend, fullgraph=True, backend=backend)

    def attend(self, x):
        x = self.layer(x).view(-1, 3, 6)
        x = F.scaled_dot_product_attention(x, x, x) + F.softmax(x.reshape(-1, 6), 1).view_as(x)
        with torch.no_grad():
            self.layer.weight.copy_(self.layer.weight).mul_(0.5).add_(self.layer.weight, alpha=0.5)
        return x.mean(1)

    def forward(self, x):
        return self.part(x.view(-1, 6))


def test_a_graph_inside_a_recorded_forward():
    """Attributes that are there for one forward only neither break a graph nor make it be compiled again."""
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    def run():
        torch.manual_seed(0)
        torch._dynamo.reset()
        compiled.clear()
        model = Inside(backend)
        optimizer = torch.optim.SGD(model.layer.parameters(), lr=0.1)
        losses = []
        for _ in range(6):
            loss = model(torch.randn(4, 18)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, len(compiled)

    alone = run()
    session = Session()
    session.start()
    seen = run()
    session.end()
    assert session.observer.failure is None
    assert seen == alone
