"""A large model is explained within a bounded part more memory, and its numbers are exact."""

from __future__ import annotations

import json
import sys

import pytest

from explainer.recorded import line, record, step

pytestmark = pytest.mark.long

PROGRAM = """\
import json, resource, torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(6)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
x = torch.randn(8, 4096)
moved = []
for _ in range(2):
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([peak, sum(p.numel() for p in model.parameters())]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are measured with Linux's resource")
def test_a_hundred_million_parameters(run_program, tmp_path):
    """The peak is at most 1.2 times that of the program alone (measured: 1.08); the move is still exact."""
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    alone, numbers = json.loads(run_program([path], cwd=tmp_path, timeout=600).out)
    assert numbers > 10**8
    seen = record(run_program, path, tmp_path / "record.json", budget=128_000_000)
    peak, _ = json.loads(seen.printed)
    assert peak <= 1.2 * alone, (peak, alone)
    (moved,) = line(step(seen, 2), seen, "optimizer.step()").effects.parameters
    assert (moved.exact, moved.numbers) == (True, numbers)
