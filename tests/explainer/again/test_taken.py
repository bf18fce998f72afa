"""The what-if "without .item()" is about the loss whose graph would be kept, on the program's own line."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from explainer.recorded import recorded_here, step

LIBRARY = """
def average(found, tensor):
    found.append(tensor.item())
"""


def under(*tensors):
    """Nodes of the graphs of all of them."""
    seen, pending = set(), [one.grad_fn for one in tensors]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [below for below, _ in node.next_functions]
    return len(seen)


def kept(read):
    """Nodes alive after one, two and three steps, of which ``read`` gives what would be added up in each."""
    torch.manual_seed(0)
    model, criterion = (
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)),
        nn.CrossEntropyLoss(),
    )
    total, found = 0.0, []
    for _ in range(3):
        for one in read(model, criterion):
            total = total + one
        found.append(under(total))
    return found


def asked(body, before=""):
    """The second step of a loop with this body, and the number of the line that holds ``# here``."""
    text = f"""
torch.manual_seed(0)
model, criterion = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)), nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y, found, total = torch.randn(6, 4), torch.arange(6) % 3, [], 0.0
{before}
for turn in range(3):
    optimizer.zero_grad()
    logits = model(x)
{body}
    optimizer.step()
"""
    space = {"torch": torch, "nn": nn, "found": []}
    exec(compile(LIBRARY, json.__file__, "exec"), space)
    line = next((at for at, one in enumerate(text.splitlines(), 1) if "# here" in one), 0)
    seen = recorded_here(lambda: run(text, space), timed=0, whatifs=True)
    second = step(seen, 2)
    assert second.not_replayed == ""
    return second, line


def run(text, space):
    """As a file of the program's own; its lines are read from the cache that a notebook fills too."""
    import linecache

    name = f"<ipython-input-{abs(hash(text))}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), space)


PLAIN = "    loss = criterion(logits, y)\n    loss.backward()\n"
ACCURACY = "    found.append((logits.argmax(1) == y).float().mean().item())\n"
FOUND = {
    "the loss, and an accuracy after it": (
        PLAIN + "    total += loss.item()  # here\n" + ACCURACY,
        lambda model, criterion: [criterion(model(torch.ones(6, 4)), torch.zeros(6).long())],
    ),
    "a number with a graph that is not the loss's": (
        PLAIN + "    total += loss.item()  # here\n    found.append(logits.max().item())\n",
        lambda model, criterion: [criterion(model(torch.ones(6, 4)), torch.zeros(6).long())],
    ),
    "a library's after it": (
        PLAIN + "    total += loss.item()  # here\n    average(found, loss)\n",
        lambda model, criterion: [criterion(model(torch.ones(6, 4)), torch.zeros(6).long())],
    ),
    "printed after it was added up": (
        PLAIN + "    total += loss.item()  # here\n    print(loss.item())\n",
        lambda model, criterion: [criterion(model(torch.ones(6, 4)), torch.zeros(6).long())],
    ),
    "what came out of it": (
        PLAIN + "    found.append((loss * 6 + 1).item())  # here\n",
        lambda model, criterion: [
            criterion(model(torch.ones(6, 4)), torch.zeros(6).long()) * 6 + 1
        ],
    ),
    "what came out of it, before": (
        (
            "    loss = criterion(logits, y)\n    found.append((loss * 6).sqrt().item())  # here\n"
            "    loss.backward()\n"
        ),
        lambda model, criterion: [
            (criterion(model(torch.ones(6, 4)), torch.zeros(6).long()) * 6).sqrt()
        ],
    ),
    "what it came out of": (
        "    loss = criterion(logits, y)\n    (loss / 2).backward()\n    total += loss.item()  # here\n",
        lambda model, criterion: [criterion(model(torch.ones(6, 4)), torch.zeros(6).long())],
    ),
    "the sum of two losses": (
        (
            "    one, other = criterion(logits[:3], y[:3]), criterion(model(x[3:]), y[3:])\n"
            "    one.backward(retain_graph=True)\n    other.backward()\n"
            "    both = one + other\n    print(both.item())  # here\n"
        ),
        lambda model, criterion: [two_losses(model, criterion)],
    ),
    "micro-batches": (
        (
            "    for part in range(2):\n        loss = criterion(model(x), y) / 2\n"
            "        total += loss.item()  # here\n        loss.backward()\n"
        ),
        lambda model, criterion: [
            criterion(model(torch.ones(6, 4)), torch.zeros(6).long()) / 2 for _ in range(2)
        ],
    ),
}


def two_losses(model, criterion):
    """Of the halves of a batch, the second of which is run by itself."""
    x, y = torch.ones(6, 4), torch.zeros(6).long()
    logits = model(x)
    return criterion(logits[:3], y[:3]) + criterion(model(x[3:]), y[3:])


QUICK = ("the loss, and an accuracy after it", "what it came out of")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in FOUND]
)
def test_the_line_and_the_nodes_that_would_be_kept(name):
    """As many as when that very number is added up with its graph, in plain torch."""
    body, read = FOUND[name]
    second, line = asked(body)
    (found,) = [one for one in second.whatifs if one.name.startswith("without .item()")]
    assert found.name == f"without .item() (line {line})"
    assert list(found.values.values()) == kept(read)
    assert second.left_out == []


LEFT_OUT = {
    "an accuracy's alone": (PLAIN + ACCURACY, "line 12 reads a tensor, which holds no graph"),
    "a library's alone": (
        PLAIN + "    average(found, loss)\n",
        "line 12 reads in a library's code",
    ),
    "the loss without its graph": (
        PLAIN + "    value = loss.detach()\n    total += value.item()\n",
        "line 13 reads `value`, which holds no graph",
    ),
    "a number of the model's output": (
        PLAIN + "    high = logits.max()\n    found.append(high.item())\n",
        "line 13 reads `high`, which is not the loss's",
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[] if "alone" in one else pytest.mark.long) for one in LEFT_OUT],
)
def test_why_it_is_not_asked(name):
    """Numbers are read, none of them the loss's: nothing of its graph would be kept, and a reason says so."""
    body, reason = LEFT_OUT[name]
    second, _ = asked(body)
    assert second.whatifs
    assert not [one for one in second.whatifs if "item" in one.name]
    assert second.left_out == [
        (
            "without `.item()`, as no line of the program's own takes a number out of the loss's graph "
            f"({reason})"
        )
    ]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_it_is_named_as_it_is_written():
    """``float(loss)`` does what ``.item()`` does."""
    second, line = asked(PLAIN + "    total += float(loss)  # here\n")
    (found,) = [one for one in second.whatifs if one.name.startswith("without float")]
    assert found.name == f"without float(loss) (line {line})"
    assert found.title.startswith("Adding up `loss` itself gives the same number")
    assert found.title.endswith("with `float(loss)` none.")


@pytest.mark.long
def test_nothing_is_said_where_nothing_is_read():
    """A loop without any number read has no such question."""
    second, _ = asked(PLAIN)
    assert second.left_out == []
    assert not [one for one in second.whatifs if "item" in one.name]
