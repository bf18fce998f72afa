"""What N ranks compute is what one process computes from the joined batches."""

from __future__ import annotations

import json

import pytest

JOINED = """
torch.set_default_dtype(torch.float64)
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(23, 5, generator=draw), torch.randn(23, 2, generator=draw)
tokens = torch.randint(1, 9, (23, 1), generator=draw).double()
def model_():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
def loss_of(model, x, y, tokens):
    # each sample counts for its tokens, as in a language model with padding
    return ((model(x) - y).square().sum(1, keepdim=True) * tokens).sum() / tokens.sum()
"""

RANKS = (
    JOINED
    + """
for accumulate, weighted in ((1, False), (1, True), (3, False), (3, True)):
    model = model_()
    loader = DataLoader(TensorDataset(x, y, tokens), batch_size=2)
    run = lw.Run(model=model, optimizer=lambda p: torch.optim.SGD(p, lr=0.05), clip=0.5,
                 accumulate=accumulate, progress=False, parallel=json.loads(os.environ["PARALLEL"]))
    norms = []
    run.on("update", lambda event: norms.append(float(run.stepper.grad_norm)))
    for step in run.loop(loader, epochs=2):
        a, b, n = step.batch
        if weighted:
            step.backward(loss_of(run.model, a, b, n), n.sum())
        else:
            step.backward((run.model(a) - b).square().sum(1).mean())
        step.update()
    run.close()
    tell(weights=torch.cat([w.flatten() for w in run.weights(averaged=False).values()]).tolist(),
         norms=norms, losses=run.history.series["loss"].y, epochs=[r.values for r in run.history.epochs],
         skipped=run.totals["skipped"], samples=run.totals["samples"], updates=run.totals["updates"])
"""
)

ONE = (
    JOINED
    + """
size = int(os.environ["JOINED"])
for accumulate, weighted in ((1, False), (1, True), (3, False), (3, True)):
    model = model_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    norms, losses, epochs = [], [], []
    for epoch in range(2):
        parts = [slice(i, i + 2 * size) for i in range(0, 23, 2 * size)]
        sums = [0.0, 0.0]
        for i in range(0, len(parts), accumulate):
            whole = slice(parts[i].start, parts[min(i + accumulate, len(parts)) - 1].stop)
            for part in parts[i : i + accumulate]:
                with torch.no_grad():
                    n = tokens[part].sum() if weighted else torch.tensor(len(x[part]))
                    one = (loss_of(model, x[part], y[part], tokens[part]) if weighted
                           else (model(x[part]) - y[part]).square().sum(1).mean())
                    losses.append(one.item())
                    sums[0] += float(one * n)
                    sums[1] += float(n)
            loss = (loss_of(model, x[whole], y[whole], tokens[whole]) if weighted
                    else (model(x[whole]) - y[whole]).square().sum(1).mean())
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
            optimizer.step()
        epochs.append(sums[0] / sums[1])
    tell(weights=torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
         norms=norms, losses=losses, epochs=epochs)
"""
)


def close(a: list[float], b: list[float], limit: float = 1e-12) -> bool:
    """Whether all numbers are the same to ``limit``."""
    return len(a) == len(b) and all(abs(x - y) <= limit for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("size", "parallel"), [
    (2, "ddp"), (3, "fsdp"),
    pytest.param(2, "fsdp", marks=pytest.mark.long), pytest.param(3, "ddp", marks=pytest.mark.long),
    pytest.param(4, {"strategy": "fsdp", "replicas": 2}, marks=pytest.mark.long),
])  # fmt: skip
def test_the_joined_batch(ranks, size, parallel):
    """Weights, norms and losses of N ranks are those of one process, whatever the weights and windows.

    23 samples in batches of 2: the last turn has unequal batches, and with 3 ranks one of them has none.
    """
    (one,) = ranks.run(ONE, 1, JOINED=str(size))
    many = ranks.run(RANKS, size, PARALLEL=json.dumps(parallel))
    for case, expected in enumerate(one):
        for rank in range(size):
            found = many[rank][case]
            assert close(found["weights"], expected["weights"])
            assert close(found["norms"], expected["norms"])
            assert close(found["losses"], expected["losses"])
            assert close([row["train_loss"] for row in found["epochs"]], expected["epochs"])
            assert found["samples"] == 46
            assert found["skipped"] == 0
            assert found["updates"] == len(expected["norms"])
        assert not close(many[0][case]["weights"], one[case - 1]["weights"], 1e-6)  # the control


PLAIN = """
from torch.nn.parallel import DistributedDataParallel
import torch.distributed as dist
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(48, 6, generator=draw), torch.randint(0, 3, (48,), generator=draw)
def model_():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
loader = DataLoader(TensorDataset(x, y), batch_size=6)
model = model_()
run = lw.Run(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.01), progress=False)
for step in run.loop(loader, epochs=3):
    a, b = step.batch
    step.backward(nn.functional.cross_entropy(run.model(a), b))
    step.update()
run.close()
other = model_()
wrapped = DistributedDataParallel(other)
optimizer = torch.optim.AdamW(other.parameters(), lr=0.01)
for epoch in range(3):
    for turn in range(4):
        part = torch.arange(RANK, 48, 2)[6 * turn : 6 * turn + 6]
        optimizer.zero_grad()
        nn.functional.cross_entropy(wrapped(x[part]), y[part]).backward()
        optimizer.step()
same = all(map(torch.equal, model.parameters(), other.parameters()))
moved = not any(map(torch.equal, model.parameters(), model_().parameters()))
buffers = all(map(torch.equal, model.buffers(), other.buffers()))
tell(same=same, moved=moved, buffers=buffers)

# collectives in an accumulation window
counted = []
for name in ("all_reduce", "broadcast", "all_gather"):
    def count(*args, _name=name, _do=getattr(dist, name), **rest):
        counted.append(_name)
        return _do(*args, **rest)
    setattr(dist, name, count)
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
def hook(state, bucket):
    counted.append("bucket")
    return allreduce_hook(state, bucket)
model = nn.Linear(6, 3)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01), accumulate=4,
             progress=False)
run.model.register_comm_hook(None, hook)
seen = []
for step in run.loop(loader, epochs=2):
    counted.clear()
    a, b = step.batch
    step.backward(nn.functional.cross_entropy(run.model(a), b))
    step.update()
    seen.append([step.updates, list(counted)])
tell(seen=seen)
"""


def test_the_same_bits_as_plain_ddp(ranks):
    """Batches of equal size give the bits of DDP written by hand, and a window's inner turns send nothing."""
    for equal, counted in ranks.run(PLAIN, 2):
        assert equal == {"same": True, "moved": True, "buffers": True}
        inner = [sent for closes, sent in counted["seen"] if not closes]
        closing = [sent for closes, sent in counted["seen"] if closes]
        assert len(closing) == 2
        assert inner[1:] == [[]] * 5
        assert "bucket" not in inner[0]  # once a run, the ranks agree on a unit for their weights
        # The gradients, by the hook; once, before it is known what batches are like, the window's weights.
        assert closing == [["bucket", "all_reduce", "all_gather"], ["bucket", "all_reduce"]]


WORDS = """
from torch.utils.data import default_collate
from loopwright.train.ranks import loop
from loopwright.parallel.world import World
said, begin = [0], World.begin_total
def begin_total(self, numbers):
    said[0] += 1
    return begin(self, numbers)
World.begin_total = begin_total
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(23, 4, generator=draw), torch.randint(0, 3, (23,), generator=draw)
def trained(pause, accumulate=1, **more):
    loop.PAUSE_S, said[0] = pause, 0
    torch.manual_seed(5)
    model = nn.Linear(4, 3)
    run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False,
                 accumulate=accumulate)
    for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True, **more), epochs=60):
        a, b = step.batch
        step.backward(nn.functional.cross_entropy(run.model(a), b))
        step.update()
        if RANK == 1 and step.index == int(os.environ["AT"]):
            run.stop("enough")
    run.close()
    return {"weights": model.weight.flatten().tolist(), "turns": step.index + 1,
            "words": said[0], "samples": run.totals["samples"]}
for accumulate in [int(os.environ["ACCUMULATE"])]:
    tell(seldom=trained(1e9, accumulate), often=trained(0, accumulate),
         asked=trained(1e9, accumulate, collate_fn=lambda batch: default_collate(batch)))
"""


@pytest.mark.parametrize(
    ("accumulate", "at"), [(1, 64), pytest.param(3, 200, marks=pytest.mark.long)]
)
def test_words(ranks, accumulate, at):
    """Ranks speak seldom where nothing is to be said; the numbers and the turn of a stop are the same."""
    for mine in ranks.run(WORDS, 2, ACCUMULATE=str(accumulate), AT=str(at)):
        for told in mine:
            seldom, often, asked = told["seldom"], told["often"], told["asked"]
            for one in (often, asked):
                for name in ("weights", "turns", "samples"):
                    assert one[name] == seldom[name], name
            assert at + 1 < seldom["turns"] <= at + 1 + at // 16
            assert seldom["words"] < 0.8 * often["words"] <= 0.8 * asked["words"]
