"""The graph under a loss, by module and by line, against hooks and a walk through it in plain torch."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
import torch

from explainer.recorded import record, recorded_here, step

PROGRAM = """\
import torch
from torch import nn
torch.manual_seed(0)
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    def forward(self, x):
        return x + self.mix(self.norm(x))
model = nn.Sequential(nn.Linear(6, 8), Block(), Block(), nn.Linear(8, 2))
scale = torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
data, labels = torch.randn(16, 6), torch.randint(2, (16,))
for turn in range(3):
    optimizer.zero_grad()
    hidden = model(data)
    target = (hidden * scale).tanh()
    penalty = scale.square().mean()
    loss = nn.functional.cross_entropy(target, labels) + penalty
    loss.backward()
    optimizer.step()
"""
LINES = {"hidden = ": 17, "target = ": 18, "penalty = ": 19, "loss = ": 20}


@pytest.fixture(scope="module")
def graph(run_program, tmp_path_factory):
    """The recorded graph of step 2."""
    folder = tmp_path_factory.mktemp("graph")
    path = folder / "train.py"
    path.write_text(PROGRAM)
    seen = record(run_program, path, folder / "record.json", timed=0, whatifs=False)
    (found,) = step(seen, 2).graphs
    return found


class Truth:
    """One forward pass: which module, and which line, made each node and saved each storage."""

    def __init__(self):
        space = {}
        body = ast.parse(PROGRAM).body
        for one in body[:-1]:
            exec(compile(ast.Module([one], []), "plain", "exec"), space)
        self.names = dict(space["model"].named_modules())
        self.inside, self.line = [], 0
        self.module_of, self.line_of = {}, {}
        self.saved = []
        self.leaves = {id(p) for p in [*space["model"].parameters(), space["scale"]]}
        seen = {
            p.untyped_storage().data_ptr() for p in [*space["model"].parameters(), space["scale"]]
        }

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                self.saved.append(
                    (self.inside[-1] if self.inside else "", self.line, storage.nbytes())
                )
            return tensor

        for path, module in self.names.items():
            module.register_forward_pre_hook(
                lambda _, __, path=path: self.inside.append(path or "model")
            )
            module.register_forward_hook(lambda _, inputs, output: self.left(inputs, output))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
            for node in body[-1].body[1:5]:
                self.line = node.lineno
                exec(compile(ast.Module([node], []), "plain", "exec"), space)
                for one in list(space.values()):
                    if isinstance(one, torch.Tensor):
                        self.note(one, "", self.line)
        self.loss = space["loss"]

    def left(self, inputs, output):
        """Nodes under an output that no module inside has claimed are this module's."""
        del inputs
        self.note(output, self.inside.pop(), self.line)

    def note(self, tensor, path, line):
        """Claim what is new under a tensor."""
        waiting = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self.module_of or hasattr(node, "variable"):
                continue
            self.module_of[node], self.line_of[node] = path, line
            waiting += [below for below, _ in node.next_functions]

    def edges(self):
        """``(from, to)``, each as often as it is there; leaves too."""
        seen, waiting, found = set(), [self.loss.grad_fn], []
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            below = [one for one, _ in node.next_functions if one is not None]
            found += [(node, one) for one in below]
            waiting += below
        return seen, found


@pytest.fixture(scope="module")
def truth():
    """The same in plain torch."""
    return Truth()


def test_nodes_and_edges(graph, truth):
    """The same nodes with the same edges between them."""
    nodes, edges = truth.edges()
    assert len(graph.node_name) == len(nodes)
    kinds = Counter(node.name() for node in nodes if not hasattr(node, "variable"))
    names = [graph.names[one] for one in graph.node_name]
    assert Counter(one for one in names if not one.startswith("leaf ")) == kinds
    assert len([one for one in names if one.startswith("leaf ")]) == len(truth.leaves)
    between = Counter((a.name(), "leaf" if hasattr(b, "variable") else b.name()) for a, b in edges)
    recorded = Counter(
        (names[a], "leaf" if names[b].startswith("leaf ") else names[b]) for a, b in graph.edges
    )
    assert recorded == between
    assert len(set(map(tuple, graph.edges))) == len(set(edges))


def test_by_module(graph, truth):
    """Each module's nodes and saved bytes, those of modules inside included, and who is in whom."""
    nodes, edges = truth.edges()
    home = {node: [truth.module_of[node]] for node in nodes if not hasattr(node, "variable")}
    for node, below in edges:
        if hasattr(below, "variable"):
            home.setdefault(below, []).append(truth.module_of[node])

    def expected(path):
        inside = [node for node, used in home.items() if inside_of(used[0], path)]
        return len(inside), sum(size for at, _, size in truth.saved if inside_of(at, path))

    for one in graph.groups[1:]:
        kind = type(truth.names["" if one.path == "model" else one.path]).__name__
        assert (one.kind, one.nodes, one.bytes) == (kind, *expected(one.path))
        above = "" if one.path == "model" else one.path.rpartition(".")[0] or "model"
        assert graph.groups[one.parent].path == above
    assert {one.path for one in graph.groups} == {"", "model", *list(truth.names)[1:]}
    whole = graph.groups[0]
    assert (whole.nodes, whole.bytes) == (len(nodes), sum(size for *_, size in truth.saved))


def inside_of(at, path):
    """True for a module and those in it."""
    return at == path or at.startswith(f"{path}.") or (path == "model" and at != "")


def test_by_line(graph, truth):
    """Nodes made by each line, and bytes saved there."""
    nodes, _ = truth.edges()
    expected = {
        f"0:{line}": [
            sum(1 for node in nodes if truth.line_of.get(node) == line),
            sum(size for _, at, size in truth.saved if at == line),
        ]
        for line in LINES.values()
    }
    own = {key: one for key, one in graph.by_line.items() if key in expected}
    inner = {key: one for key, one in graph.by_line.items() if key not in expected}
    assert set(inner) == {"0:10"}  # the blocks' own forward, called by line 17
    own["0:17"] = [a + b for a, b in zip(own["0:17"], inner["0:10"], strict=True)]
    assert own == expected


def test_two_models_with_equal_paths():
    """The layers of each stand under it, though both call their first one "0"."""

    def train():
        torch.manual_seed(0)
        maker = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        judge = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh())
        optimizer = torch.optim.SGD(maker.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            judge(maker(torch.ones(6, 3))).sum().backward()
            optimizer.step()

    (graph,) = step(recorded_here(train, timed=0), 2).graphs
    found = {}
    for group in graph.groups[1:]:
        above = graph.groups[group.parent].path if group.parent else ""
        found[above, group.path] = (group.kind, group.nodes)
    assert found == {
        ("", "maker"): ("Sequential", 9),
        ("maker", "0"): ("Linear", 4),
        ("maker", "1"): ("ReLU", 1),
        ("maker", "2"): ("Linear", 4),
        ("", "judge"): ("Sequential", 5),
        ("judge", "0"): ("Linear", 4),
        ("judge", "1"): ("Tanh", 1),
    }
