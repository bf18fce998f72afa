"""What is noted inside a recorded forward, and that nothing of it stays in torch."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from loopwright.observe.operations import FUNCTIONS
from loopwright.observe.watch import Observer


class Asking:
    """A listener that wants to know what is called inside a forward."""

    def __init__(self):
        self.noted = []
        self.observer = Observer([self])

    def before_forward(self, event):
        self.observer.here.inner = []

    def after_forward(self, event):
        self.noted.append(
            [(one.name, one.given, one.result) for one in self.observer.here.operations]
        )


class Model(nn.Module):
    """Views its input, and meets another thread on the way."""

    def __init__(self, meet=lambda: None):
        super().__init__()
        self.layer, self.meet = nn.Linear(6, 6), meet

    def forward(self, x):
        self.meet()
        x = self.layer(x.view(-1, 6)).reshape(2, 3, 6)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.0).softmax(-1)


@pytest.fixture
def asking():
    """The listener, installed; taken out afterwards."""
    found = Asking()
    found.observer.install()
    yield found
    found.observer.uninstall()
    assert found.observer.failure is None


def attributes():
    """The attributes themselves."""
    return [vars(owner).get(name) for owner, name in FUNCTIONS]


def test_shapes_are_noted(asking):
    """Views, attention and softmax with the shapes that they were given and made."""
    before = attributes()
    model = Model()
    plain = model(torch.ones(2, 18))
    assert attributes() == before
    assert asking.noted == [
        [
            ("view", (2, 18), (6, 6)),
            ("reshape", (6, 6), (2, 3, 6)),
            ("scaled_dot_product_attention", (2, 3, 6), (2, 3, 6)),
            ("softmax", (2, 3, 6), (2, 3, 6)),
        ]
    ]
    asking.observer.uninstall()
    assert torch.equal(model(torch.ones(2, 18)), plain)


def test_a_forward_that_fails_leaves_nothing(asking):
    """The attributes are gone when the forward raises."""
    before = attributes()
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        Model()(torch.ones(5))
    assert attributes() == before


def test_each_thread_notes_its_own(asking):
    """Two forwards at once: neither loses an operation to the other, and the last one out cleans up."""
    before = attributes()
    both = threading.Barrier(2, timeout=30)
    models = [Model(both.wait), Model(both.wait)]
    threads = [threading.Thread(target=model, args=(torch.ones(2, 18),)) for model in models]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [len(noted) for noted in asking.noted] == [4, 4]
    assert attributes() == before
