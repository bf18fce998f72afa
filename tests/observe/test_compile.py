"""Compiled models, functions and losses train the same under observation, and nothing breaks the graph."""

from __future__ import annotations

import os
import subprocess
import sys

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
    torch._dynamo.trace_rules.clear_lru_cache()  # whichever test came first
    seen = run()
    session.end()
    assert seen == run() == [3.0, 3.0, 3.0]


FIRST_COMPILED = """
import sys, warnings
import torch
from torch import nn
from torch.nn import functional as F
from loopwright.checker.session import Session

warnings.simplefilter("error")
warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)


class Model(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            weights = torch.ones(2, 4, 3)
            torch.Tensor.mul_(weights, 0.5).add_(1)
            torch.Tensor.copy_(weights, torch.Tensor.lerp_(weights, weights * 2, 0.5))
        x = torch.Tensor.to(x, torch.float64).float() * weights
        x = F.scaled_dot_product_attention(x, x, x) + torch.softmax(torch.reshape(x, (2, 4, 3)), 1)
        return torch.Tensor.view(torch.log_softmax(x, 1), 2, 12)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Model()
        self.layer = nn.Linear(12, 2)

    def forward(self, x):
        compiled = torch.compile(self.part, fullgraph=True, backend="aot_eager")
        read = torch.compile(lambda x: x * torch.Tensor.item(x.sum()), backend="aot_eager")
        return self.layer(compiled(x)), read(torch.ones(3)).tolist()


session = Session()
if "observed" in sys.argv:
    session.start()
    assert torch.Tensor.item is not torch._C.TensorBase.item
assert "torch._dynamo" not in sys.modules, "it is the program that is to bring Dynamo"
torch.manual_seed(0)
outer, given = Outer(), torch.randn(2, 4, 3)
first = outer(given)
again = outer(given)
session.end()
assert session.observer.failure is None, session.observer.failure
rules, tensors = torch._dynamo.trace_rules, torch._dynamo.variables.tensor
for name in ("item", "tolist", "to", "cpu", "mul_", "add_", "copy_", "lerp_", "view", "softmax"):
    assert vars(torch._C.TensorBase)[name] in rules.get_tensor_method(), name
    assert tensors.all_tensor_attrs[name] is vars(torch._C.TensorBase)[name], name
known = rules.get_torch_obj_rule_map()
for one in (torch.reshape, torch.softmax, torch.log_softmax, F.scaled_dot_product_attention):
    assert one in known, one
assert not [one for one in sys.meta_path if "loopwright" in type(one).__module__]
loaders = [tensors.__spec__.loader, rules.__spec__.loader]
assert not [one for one in loaders if "exec_module" in vars(one)]
print(first, again)
"""


def test_dynamo_comes_under_observation(tmp_path):
    """Its tables hold torch's own functions, also where it is first imported inside a recorded forward."""
    program = tmp_path / "program.py"
    program.write_text(FIRST_COMPILED)
    printed = [
        subprocess.run(
            [sys.executable, program, how],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for how in ("alone", "observed")
    ]
    assert [one.returncode for one in printed] == [0, 0], printed[-1].stderr
    assert printed[0].stdout == printed[1].stdout


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
