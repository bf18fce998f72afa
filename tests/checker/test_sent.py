"""What a collective sends, by name: read from where it is called, without processes."""

from __future__ import annotations

import sys
from collections import OrderedDict

import pytest
import torch
from torch import nn

from loopwright.checker.accounts.sent import Sent

told = []


def send(*tensors):
    """Stand in for a collective among two ranks."""
    assert tensors
    name, _ = Sent().named(sys._getframe(1), 2)
    told.append(name and (name.kind, name.name, name.unordered))


def values(*names):
    return {name: torch.ones(1) for name in names}


def by_a_set():
    stats = values("b", "a")
    for name in {*stats}:
        send(stats[name])


def by_a_union():
    stats, more = {"a"}, {"b"}
    both = values("a", "b")
    for _at, name in enumerate(stats | more):
        send(both[name])


def by_items():
    for name, value in OrderedDict(values("a", "b")).items():
        send(value)
        assert name in "ab"


def by_an_attribute():
    class Meter:
        def __init__(self):
            self.sums = values("a", "b")

        def reduce(self):
            for name in self.sums:
                send(self.sums[name])
                self.sums[name] /= 2

    Meter().reduce()


def by_a_list_of_a_set():
    stats = values("a", "b")
    names = list({*stats})
    for name in names:
        value = stats[name]
        send(value)


@pytest.mark.parametrize(
    "loop", [by_a_set, by_a_union, by_items, by_an_attribute, by_a_list_of_a_set]
)
def test_keys(loop):
    """A set or a dict has chosen them."""
    told.clear()
    loop()
    assert {name for _, name, _ in told} == {"'a'", "'b'"}
    assert {(kind, unordered) for kind, _, unordered in told} == {("key", True)}


def by_a_sorted_set():
    stats = values("a", "b")
    for name in sorted({*stats}):
        send(stats[name])


def by_a_list():
    stats = values("a", "b")
    for name in ["a", "b"]:
        send(stats[name])


def by_rank():
    stats = values(0, 1)
    for name in stats:
        send(stats[name])


def of_another_value():
    for name in values("a"):
        value = torch.ones(len(name))
        send(value * 2)
        send(value)


def added_up():
    stats, total = values("a"), 0
    for name in {*stats}:
        send(stats[name])
        total = total + stats[name]


def summed_afterwards():
    stats = values("a")
    for name in {*stats}:
        send(stats[name])
    return sum(stats.values())


def in_no_loop():
    name, stats = "a", values("a")
    send(stats[name])


@pytest.mark.parametrize(
    "loop",
    [
        by_a_sorted_set,
        by_a_list,
        by_rank,
        of_another_value,
        added_up,
        summed_afterwards,
        in_no_loop,
    ],
)
def test_no_names(loop):
    """The program's own order, a rank, what no key leads to, what is added up without its name."""
    told.clear()
    loop()
    assert {*told} == {None}


class Net(nn.Module):
    """A user's."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2)

    def share(self):
        for parameter in {*self.parameters()}:
            send(parameter.grad)
        for parameter in self.parameters():
            gradient = parameter.grad
            send(gradient)
        send(self.one.weight.data)


def test_parameters():
    """By the name in the module that a variable holds; the values tell replicas."""
    told.clear()
    model = Net()
    model.share()
    names = {"Net.one.weight", "Net.one.bias"}
    assert {*told[:2]} == {("parameter", name, True) for name in names}
    assert told[2:] == [
        ("parameter", "Net.one.weight", False),
        ("parameter", "Net.one.bias", False),
        ("parameter", "Net.one.weight", False),
    ]

    parameter = model.one.weight

    def given(_):
        return Sent().named(sys._getframe(1), 2)[1]

    first = given(parameter)
    assert first == given(parameter) != 0
    with torch.no_grad():
        parameter += 1
    assert given(parameter) not in (0, first)
