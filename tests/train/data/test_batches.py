"""Nested batches: found, counted and moved whatever their shape."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from loopwright.train.data.batches import count_samples, count_tokens, map_tensors, tensors


class Pair(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass
class Plain:
    x: torch.Tensor
    name: str = "plain"


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    rest: tuple


@dataclasses.dataclass(slots=True)
class Slots:
    x: torch.Tensor
    n: int = 3


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    x: torch.Tensor
    n: int = 3


@dataclasses.dataclass
class Checked:
    """Has a field that is not an argument, and counts what its constructor does."""

    x: torch.Tensor
    derived: torch.Tensor = dataclasses.field(init=False)
    made: int = 0

    def __post_init__(self):
        self.derived = self.x * 2
        self.made += 1


@dataclasses.dataclass
class Odd:
    """A dataclass whose constructor takes something else."""

    x: torch.Tensor

    def __init__(self, width):
        self.x = torch.ones(2, width)
        self.also = "kept"


class Graph:
    """An object with .to of its own, like those of graph libraries."""

    def __init__(self, x):
        self.x = x
        self.moves = 0

    def to(self, device, non_blocking=False):
        new = Graph(self.x.to(device))
        new.moves = self.moves + 1
        return new


class Encoding(UserDict):
    """A tokenizer's result: a mapping with .to of its own and more than its items."""

    def __init__(self, data, encodings="rust"):
        super().__init__(data)
        self.encodings = encodings

    def to(self, device, non_blocking=False):
        self.data = {k: v.to(device) for k, v in self.data.items()}
        return self


class Stubborn(UserDict):
    """A mapping whose constructor takes something else."""

    def __init__(self, one, two, three):
        super().__init__()


def to_meta(part):
    """Move to a device that is on every machine and shares no memory with the CPU."""
    return part.to("meta")


def on_meta(batch):
    """Whether every tensor of a batch is there."""
    found = list(tensors(batch))
    return bool(found) and all(t.device.type == "meta" for t in found)


T = torch.ones(4, 3)
NESTED = {
    "tensor": T,
    "tuple": (T, T),
    "list": [T, [T, (T,)]],
    "dict": {"x": T, "deep": {"y": [T]}},
    "namedtuple": Pair(T, {"y": T}),
    "ordered": OrderedDict(b=T, a=T),
    "dataclass": Plain(T),
    "frozen": Frozen(T, (T, "text")),
    "slots": Slots(T),
    "frozen slots": FrozenSlots(T),
    "init=False": Checked(T),
    "other constructor": Odd(2),
    "in a dataclass in a dict": {"one": Frozen(T, ({"two": Slots(T)},))},
}


@pytest.mark.parametrize("kind", NESTED)
def test_moved(kind):
    """Every tensor moves; the containers keep their types, and the given batch is left alone."""
    batch = NESTED[kind]
    moved = map_tensors(batch, to_meta)
    assert type(moved) is type(batch)
    assert on_meta(moved)
    assert not any(t.device.type == "meta" for t in tensors(batch))
    assert len(list(tensors(moved))) == len(list(tensors(batch)))


@pytest.mark.parametrize("kind", NESTED)
def test_same_object_when_nothing_moves(kind):
    """A batch that is where it belongs is returned as the very same object."""
    batch = NESTED[kind]
    assert map_tensors(batch, lambda part: part) is batch


def test_other_values_are_passed_on():
    """Strings, numbers, None and classes are not touched."""
    batch = ("text", 3, None, 2.5, True, b"x", torch.Tensor, dataclasses, T)
    moved = map_tensors(batch, to_meta)
    assert moved[:8] == batch[:8]
    assert moved[8].device.type == "meta"


def test_a_str_is_no_sequence():
    """A batch of text alone is passed on as it is."""
    batch = {"text": ["a", "b"], "ids": T}
    assert map_tensors(batch, to_meta)["text"] is batch["text"]


def test_dataclass_is_not_constructed_again():
    """A moved dataclass is not made by its constructor: what that derived or counted is moved instead."""
    moved = map_tensors(Checked(T), to_meta)
    assert moved.made == 1
    assert moved.derived.device.type == "meta"
    assert map_tensors(Odd(2), to_meta).also == "kept"


def test_object_with_to():
    """An object with .to is moved by its own method, once, also inside containers."""
    moved = map_tensors({"graphs": [Graph(T)]}, to_meta)["graphs"][0]
    assert moved.x.device.type == "meta"
    assert moved.moves == 1


def test_packed_sequence():
    """A PackedSequence, a named tuple with .to, moves by its own method."""
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    moved = map_tensors([packed], lambda part: part.to("cpu", torch.float64))[0]
    assert type(moved) is type(packed)
    assert moved.data.dtype == torch.float64
    assert moved.batch_sizes.dtype == torch.int64


def test_encoding():
    """A mapping with .to of its own is moved by it and keeps what else it holds."""
    moved = map_tensors(Encoding({"ids": T}, encodings="mine"), to_meta)
    assert isinstance(moved, Encoding)
    assert moved.encodings == "mine"
    assert moved["ids"].device.type == "meta"


@pytest.mark.parametrize(
    "batch", [defaultdict(list, x=T), UserDict(x=T), MappingProxyType({"x": T}), Stubborn(1, 2, 3)]
)
def test_other_mappings(batch):
    """Mappings of other kinds move; one that cannot be made from items becomes a dict."""
    if isinstance(batch, Stubborn):
        batch["x"] = T
    moved = map_tensors(batch, to_meta)
    assert moved["x"].device.type == "meta"
    assert type(moved) is (dict if isinstance(batch, Stubborn) else type(batch))
    assert batch["x"].device.type == "cpu"


def test_defaultdict_keeps_its_default():
    """A defaultdict still has its default."""
    assert map_tensors(defaultdict(list, x=T), to_meta)["missing"] == []


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        ((torch.ones(5, 2), torch.ones(5)), 5),
        ([torch.ones(7)], 7),
        ({"name": "x", "ids": torch.ones(3, 2)}, 3),
        (Plain(torch.ones(6, 1)), 6),
        (Pair(torch.tensor(1.0), torch.ones(2, 2)), 2),
        (torch.tensor(3.0), None),
        ({"n": 3}, None),
        ((), None),
        ("text", None),
        (torch.ones(0, 3), 0),
    ],
)
def test_count_samples(batch, samples):
    """Samples are the first dimension of the first tensor that has one."""
    assert count_samples(batch) == samples


@pytest.mark.parametrize(
    ("batch", "tokens"),
    [
        ({"x": torch.ones(2, 9), "ids": torch.zeros(2, 5, dtype=torch.long)}, 10),
        ((torch.zeros(3, dtype=torch.long), torch.zeros(3, 4, dtype=torch.int32)), 12),
        (torch.ones(2, 2), None),
        (torch.zeros(5, dtype=torch.long), None),
        ([], None),
    ],
)
def test_count_tokens(batch, tokens):
    """Tokens are the elements of the first integer tensor with two dimensions."""
    assert count_tokens(batch) == tokens
