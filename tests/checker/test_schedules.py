"""What is remembered of a checkpoint that was read."""

from __future__ import annotations

from types import SimpleNamespace

from torch import nn

from loopwright.checker.accounts.schedules import Schedules
from loopwright.events import Event


def test_weights_copied_in_every_step_are_remembered_once():
    """A target network that follows the policy, in a program that read a checkpoint: memory stays flat."""
    account = Schedules(SimpleNamespace(), SimpleNamespace())
    saved = {"model": {}, "optimizer": {"state": {0: {}}, "param_groups": [{"params": [0]}]}}
    account.after_load(Event("load", None, 1, None, ("last.pt",), result=saved))
    target = nn.Linear(4, 2)
    for number in range(2, 52):
        account.after_load_state_dict(Event("load_state_dict", None, number, target, (target, {})))
    (load,) = account.loads
    assert len(load["into"]) == 2
