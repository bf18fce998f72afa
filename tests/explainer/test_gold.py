"""What terminal, JSON and difference say of one program, word for word: the files in ``gold/``.

    RENEW_GOLD=1 python3 start.py test tests/explainer/test_gold.py

writes them again; what changed is then to be read in ``git diff``. They are of one version of torch, whose
numbers and graphs they hold; times are set to fixed ones before anything is drawn.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from explainer.recorded import record
from loopwright.explainer.difference import difference
from loopwright.report import difference_terminal, explain_json, explain_terminal

GOLD = Path(__file__).parent / "gold"
RENEW = "RENEW_GOLD=1 python3 start.py test tests/explainer/test_gold.py"
TORCH = "2.13"
PROGRAM = """\
import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(40, 4)
Y = (X.sum(1) > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

model.train()
train_loss = 0.0
for data, labels in loader:
    data, labels = data.to("cpu"), labels.to("cpu")
    optimizer.zero_grad()
    target = model(data)
    loss = criterion(target, labels)
    loss.backward()
    optimizer.step()
    train_loss += loss.item()

model.eval()
with torch.no_grad():
    for data, labels in loader:
        right = (model(data).argmax(1) == labels).sum().item()
"""
CHANGED = PROGRAM.replace("AdamW", "SGD").replace("    optimizer.zero_grad()\n", "")

pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith(TORCH), reason=f"the gold files are of torch {TORCH}"
)


@pytest.fixture(scope="module")
def records(run_program, tmp_path_factory):
    """The program and a changed one, recorded, with times and folders that are the same everywhere."""
    folder = tmp_path_factory.mktemp("gold")

    made = []
    for name, text in (("train.py", PROGRAM), ("changed.py", CHANGED)):
        (folder / name).write_text(text)
        for _ in range(3):
            seen = record(run_program, folder / name, folder / f"{name}.json", steps=2, timed=2)
            # Of two timed turns a stall of the machine can make one that leaves phases out.
            if all("item" in timing.phases for timing in seen.timings):
                break
        scrub(seen, name)
        made.append(seen)
    return made


def scrub(seen, name):
    """Set what a clock measures, what the allocator does (ties in time), and what is of this machine."""
    seen.files[0].path = name
    seen.environment = {"device": "cpu"}
    seen.printed = ""
    for line in [*seen.setup, *(one for step in seen.steps for one in step.lines)]:
        line.seconds = line.own_seconds = 0.0
        effects = line.effects
        effects.made = effects.made_bytes = effects.freed = effects.freed_bytes = 0
        for event in line.events:
            event.seconds = 0.0
            for module in event.facts.get("modules", []):
                module["seconds"] = 0.0
    for step in seen.steps:
        step.seconds = 0.0
        step.memory = []
    for timing in seen.timings:
        timing.seconds = 1e-3
        timing.phases = {name: (at + 1) * 1e-5 for at, name in enumerate(timing.phases)}
        timing.lines = {name: (at + 1) * 1e-5 for at, name in enumerate(sorted(timing.lines))}
        timing.timeline, timing.advice, timing.seldom = [], [], []


def rounded(value):
    """Numbers to six digits: the last ones are a processor's own."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def holds(name, text):
    """The file says so; with ``RENEW_GOLD`` it is written."""
    path = GOLD / name
    if os.environ.get("RENEW_GOLD"):
        GOLD.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"to renew it, and read what changed: {RENEW}"


def test_terminal(records):
    """The annotated source and the step in one view."""
    holds("terminal.txt", explain_terminal.render(records[0]))


def test_json(records):
    """Every field, one line each."""
    plain = rounded(json.loads(explain_json.render(records[0])))
    if sys.version_info >= (3, 13) and not os.environ.get("RENEW_GOLD"):
        # A loop's head is the whole statement to older Pythons, and what it goes through to this one.
        gold = json.loads((GOLD / "record.json").read_text(encoding="utf-8"))
        assert without_columns(plain) == without_columns(gold)
    else:
        holds("record.json", json.dumps(plain, indent=0, ensure_ascii=False) + "\n")


def without_columns(value):
    """A record without where in its lines an event was."""
    if isinstance(value, dict):
        names = [one for one in value if one not in ("column", "end_line", "end_column")]
        return {name: without_columns(value[name]) for name in names}
    return [without_columns(one) for one in value] if isinstance(value, list) else value


def test_difference(records):
    """Another optimizer, and a line less."""
    holds("difference.txt", difference_terminal.render(difference(*records)))


def test_the_command_that_renews_stands_where_people_look():
    """In this file's head, in CONTRIBUTING, and in what a failing comparison says."""
    assert RENEW in __doc__
    assert RENEW in (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    if not os.environ.get("RENEW_GOLD"):
        with pytest.raises(AssertionError, match=re.escape(RENEW)):
            holds("terminal.txt", "something else")
