"""What a step can change is put back, and what cannot be put back is not run again."""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict, deque

import pytest
import torch

from explainer.recorded import PROGRAMS, step
from loopwright.explainer.again.reach import Noted, Reach

WHATIFS = """
import torch
from torch import nn
torch.manual_seed(0)
SETUP
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for turn in range(4):
    x = torch.randn(8, 4)
    optimizer.zero_grad()
    loss = BODY
    loss.backward()
    optimizer.step()
print(sorted(globals().get("seen", {}).items()), turn, loss.item(), torch.rand(1))
"""
LOSS = "nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))"
STREAM = """\
class Source:
    def __init__(self):
        self.stream = (i for i in range(100))
source = Source()"""
CLOSURE = """\
def counting():
    n = 0
    def loss_of(x):
        nonlocal n
        n += 1
        seen[n] = n
        return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) * n
    return loss_of
seen = {}
loss_of = counting()"""
GLOBAL = """\
count = 0
seen = {}
def loss_of(x):
    global count
    count += 1
    seen[count] = 1
    return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) * count"""
OBJECTS = """\
class Meter:
    def __init__(self):
        self.values = []
        self.mean = torch.zeros(1)
class Trainer:
    def __init__(self):
        self.meters = {'loss': Meter()}
    def __call__(self, x):
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        self.meters['loss'].values.append(loss.item())
        self.meters['loss'].mean.mul_(0.5).add_(loss.detach())
        return loss
trainer = Trainer()
seen = vars(trainer.meters['loss'])"""
SHADOW = """\
shadow = nn.Linear(4, 1)
seen = {}
def follow(x):
    with torch.no_grad():
        for a, b in zip(shadow.parameters(), model.parameters()):
            a.mul_(0.9).add_(b, alpha=0.1)
    seen['w'] = shadow.weight.sum().item()
    return nn.functional.mse_loss(model(x), shadow(x).detach())"""
CLASS = """\
class Head(nn.Linear):
    calls, seen = 0, {}
    @classmethod
    def of(cls, x):
        cls.calls += 1
        cls.seen[cls.calls] = 1
        cls.late = cls.calls
        return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) * cls.late
seen = Head.seen"""
COUNTED = """\
seen = {}
def counted(function):
    def inner(x, held=[]):
        held.append(0)
        inner.calls += 1
        seen[inner.calls] = len(held)
        return function(x) * inner.calls
    inner.calls = 0
    return inner
@counted
def loss_of(x):
    return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))"""
HARMFUL = {
    "an iterator": ("it = iter(range(100))", f"{LOSS} * (1 + next(it))"),
    "a generator in an object": (STREAM, f"{LOSS} * (1 + next(source.stream))"),
    "a file": ("out = open('log.txt', 'w')", f"(out.write('x'), {LOSS})[1]"),
    "a new file": ("", f"(open(f'{{turn}}.txt', 'a').write('x'), {LOSS})[1]"),
    "a generator of its own": (
        "own = torch.Generator().manual_seed(1)",
        f"{LOSS} * torch.rand(1, generator=own).item()",
    ),
    "a counter in a closure": (CLOSURE, "loss_of(x)"),
    "a global": (GLOBAL, "loss_of(x)"),
    "a class": (CLASS, "Head.of(x)"),
    "a function's own attributes and defaults": (COUNTED, "loss_of(x)"),
    "an object inside an object": (OBJECTS, "trainer(x)"),
    "another model's weights": (SHADOW, "follow(x)"),
    "a scaler that is off": (
        "scaler = torch.amp.GradScaler('cpu', enabled=False)",
        f"scaler.scale({LOSS})",
    ),
}

REASONS = {
    "an iterator": "take a further item from `it`",
    "a generator in an object": "take a further item from `stream`",
    "a file": "would write once more",
    "a new file": "would write once more",
}
"""What cannot be put back is not run again; everything else is."""


def program(name):
    """A training whose step changes something else than its model."""
    setup, body = HARMFUL[name]
    return WHATIFS.replace("SETUP", setup).replace("BODY", body)


@pytest.mark.parametrize("name", HARMFUL)
def test_what_ifs_harm_nothing(name, explained, run_program, tmp_path):
    """It prints the same and leaves the same files as alone; what-ifs are shown, or the reason why not."""
    alone, seen = tmp_path / "alone", tmp_path / "seen"
    for folder in (alone, seen):
        folder.mkdir()
        (folder / "train.py").write_text(program(name))
    plain = run_program(["train.py"], cwd=alone)
    assert plain.rc == 0, plain.err
    told = explained(program(name), name="seen/train.py")
    assert told.printed == plain.out
    files = {file.name: file.read_text() for file in alone.iterdir()}
    assert {
        file.name: file.read_text() for file in seen.iterdir() if "json" not in file.name
    } == files
    second = step(told, 2)
    if name in REASONS:
        assert REASONS[name] in second.not_replayed
        assert second.whatifs == []
    else:
        names = [one.name for one in second.whatifs]
        assert {"half the learning rate", "twice the learning rate"} <= set(names)


class Holder:
    """An object of a program."""

    def __init__(self):
        self.number = 1
        self.items = [1, 2]
        self.table = defaultdict(int, a=1)
        self.queue = deque([1, 2], maxlen=4)
        self.counter = Counter("aab")
        self.tensor = torch.ones(3)
        self.random = random.Random(0)
        self.draws = torch.Generator().manual_seed(0)
        self.inner = None


def test_everything_is_put_back():
    """Attributes, items, contents, generators: of an object, and of an object in it."""
    holder = Holder()
    holder.inner = Holder()
    reach = Reach(sys._getframe())
    noted = Noted(reach, set())
    expected = [
        holder.random.random(),
        torch.rand(1, generator=holder.draws),
        random.random(),
        torch.rand(1),
    ]
    noted.put_back()
    for one in (holder, holder.inner):
        one.number = 2
        one.items.append(3)
        one.table["b"] += 1
        one.queue.append(3)
        one.counter.update("c")
        one.tensor.add_(1)
        one.extra = True
        one.random.random()
    random.random()
    torch.rand(1)
    noted.put_back()
    for one in (holder, holder.inner):
        assert (one.number, one.items, dict(one.table)) == (1, [1, 2], {"a": 1})
        assert (list(one.queue), one.counter) == ([1, 2], Counter("aab"))
        assert torch.equal(one.tensor, torch.ones(3))
        assert one.tensor._version == 0
        assert not hasattr(one, "extra")
    again = [
        holder.random.random(),
        torch.rand(1, generator=holder.draws),
        random.random(),
        torch.rand(1),
    ]
    assert again == expected


@pytest.mark.long
def test_a_compiled_model_is_left_alone(run_program, tmp_path):
    """Running it changed would compile it once more, so it is not run."""
    from explainer.recorded import record

    seen = record(run_program, PROGRAMS / "clean" / "compiled_model.py", tmp_path / "record.json")
    reasons = [one.not_replayed for one in seen.steps if one.not_replayed]
    assert any("is compiled" in reason for reason in reasons)


class Slotted:
    """Of an installed library, as far as can be seen."""

    __slots__ = ("count", "held", "unset")


class Plain(Slotted):
    """With a dictionary as well."""


@pytest.mark.parametrize("kind", [Slotted, Plain])
def test_objects_of_libraries_are_put_back(kind, monkeypatch):
    """Attributes in slots and in the dictionary, those that were not set, and what they hold."""
    monkeypatch.setattr(
        sys.modules[__name__], "__file__", torch.utils.data.__file__.replace("torch", "other")
    )
    thing = kind()
    thing.count, thing.held = 1, [torch.zeros(2)]
    if kind is Plain:
        thing.more = {"a": 1}
    noted = Noted(Reach(sys._getframe()), set())
    thing.count, thing.unset = 2, 3
    thing.held[0] += 1
    thing.held.append(4)
    if kind is Plain:
        thing.more["a"] = 2
        thing.other = 5
    noted.put_back()
    assert (thing.count, len(thing.held), thing.held[0].tolist()) == (1, 1, [0, 0])
    assert not hasattr(thing, "unset")
    assert kind is Slotted or vars(thing) == {"more": {"a": 1}}
