"""What a run says of an environment that torchrun has not set, or not whole."""

from __future__ import annotations

import pytest
from torch import nn
from torch.optim import SGD

import loopwright as lw
from loopwright.errors import UsageError

WHOLE = {
    "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "said"), [
    ("RANK", None, "WORLD_SIZE=2 asks for several processes, and RANK is not set"),
    ("MASTER_ADDR", None, "WORLD_SIZE=2 asks for several processes, and MASTER_ADDR is not set"),
    ("MASTER_PORT", None, "WORLD_SIZE=2 asks for several processes, and MASTER_PORT is not set"),
    ("RANK", "2", "RANK=2 and WORLD_SIZE=2: a rank is a number below the world size"),
    ("RANK", "-1", "RANK=-1 and WORLD_SIZE=2: a rank is a number below the world size"),
    ("WORLD_SIZE", "two", "WORLD_SIZE='two' is not a whole number"),
    ("MASTER_PORT", "http", "MASTER_PORT='http' is not a whole number"),
    ("LOCAL_RANK", "gpu0", "LOCAL_RANK='gpu0' is not a whole number"),
])  # fmt: skip
def test_wrong_environments(monkeypatch, name, value, said):
    """A run names the variable and its value at once, and does not wait for anybody."""
    for key, right in WHOLE.items():
        monkeypatch.setenv(key, right)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as error:
        lw.Run(model=nn.Linear(1, 1), optimizer=lambda params: SGD(params, lr=0.1))
    assert said in str(error.value)
    assert error.value.slug == "torchrun-environment"


def test_one_process_of_torchrun(monkeypatch):
    """A world of one needs none of the others, and trains alone."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    run = lw.Run(model=nn.Linear(1, 1), optimizer=lambda params: SGD(params, lr=0.1))
    assert (run.rank, run.world_size) == (0, 1)
    run.close()
