"""The account of one optimizer's gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopwright.train.update.window import Window


@pytest.fixture
def window() -> Window:
    """Return a closed window over two parameters in two groups."""
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    return Window("a", torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.1))


SITE = ((lambda: None).__code__, 0)


def test_a_new_window_is_closed(window):
    """No turn, no factor, nothing left undone."""
    assert (window.turns, window.total, window.updates) == (0, None, 0)
    assert window.agreed
    assert not window.finished
    assert not window.has_gradients()


def test_factors_add_up(window):
    """The total is the sum of the turns' factors, numbers or tensors."""
    window.add(0, 1.0, 16, SITE)
    window.add(1, 0.5, 8, SITE)
    window.add(2, torch.tensor(0.25), torch.tensor(4), SITE)
    assert window.turns == 3
    assert float(window.total) == 1.75
    assert not window.agreed
    assert window.last_turn == 2


def test_a_plain_backward_needs_no_factor(window):
    """A window of one plain backward has turns and no total: nothing will be multiplied."""
    window.add(0, None, 16, SITE)
    assert (window.turns, window.total) == (1, None)


def test_clear_keeps_the_count_of_updates(window):
    """Closing forgets the gradients' account and not the past."""
    window.add(4, 1.0, 16, SITE)
    window.updates = 7
    window.clear()
    assert (window.turns, window.total, window.updates, window.last_turn) == (0, None, 7, 4)


def test_parameters_in_the_order_of_the_groups(window):
    """Parameters come as the groups hold them; gradients are seen in any of them."""
    first, second = window.parameters()
    assert (first.numel(), second.numel()) == (2, 3)
    second.grad = torch.zeros(3)
    assert window.has_gradients()


def test_state_round_trip(window):
    """Turns, total, updates and whether the gradients are finished come back."""
    window.add(0, torch.tensor(0.75), torch.tensor(12), SITE)
    window.updates, window.finished = 3, True
    other = Window("a", window.optimizer)
    other.load_state_dict(window.state_dict())
    assert (other.turns, float(other.total), other.updates) == (1, 0.75, 3)
    assert other.finished
    assert other.agreed, "a checkpoint stands between turns"
