"""An epoch with fewer batches than there are ranks: those without one keep step, for nothing."""

from __future__ import annotations

import json
from itertools import chain

import pytest
import torch
from torch import nn

CASES = """
from torch.utils.data import IterableDataset, Sampler
torch.set_default_dtype(torch.float64)
class Numbers(torch.utils.data.Dataset):
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i): return {"x": torch.tensor([1.0 + i, 2.0 - i]), "of": (i, "a word")}
class Stream(IterableDataset):
    def __init__(self, n): self.items = [Numbers(n)[i] for i in range(n)]
    def __iter__(self): yield from self.items
class Endless(Sampler):
    def __iter__(self): yield 0
def batches():
    yield next(iter(DataLoader(Numbers(3), batch_size=3)))
own = list(DataLoader(Numbers(9), batch_size=2))
loaders = {
    "stream of one": DataLoader(Stream(1), batch_size=2),
    "stream of four": DataLoader(Stream(4), batch_size=1),
    "function": batches,
    "sampler without a length": DataLoader(Numbers(5), batch_size=2, sampler=Endless()),
    "batch sampler": DataLoader(Numbers(5), batch_sampler=[[0, 3, 4]]),
    "one sample": DataLoader(Numbers(1), batch_size=2),
    "sharded": own[: [1, 0, 3][RANK]],
}
def model_():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
"""

TRAINED = (
    CASES
    + """
parallel = json.loads(os.environ["PARALLEL"])
for name, loader in loaders.items():
    run = lw.Run(model=model_(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), progress=False,
                 parallel=parallel)
    turns = []
    for step in run.loop(loader, epochs=2, name=name, sharded=name == "sharded"):
        x = step.batch["x"]
        turns.append([] if run.active.source.padding else x.tolist())
        assert step.batch["of"][1][0] == "a word"
        step.backward(run.model(x).square().mean())
        step.update()
    mean, count, mine = lw.Mean(), lw.Sum(), 0
    for batch in run.evaluate(loader, sharded=name == "sharded"):
        run.model(batch["x"][:1])  # two calls a batch: who has none makes both
        mean.update(run.model(input=batch["x"]))
        count.update(len(batch["x"]))
        mine += 1
    evaluated = [mine, count.compute(), mean.compute()]
    run.close()
    tell(name=name, turns=turns, evaluated=evaluated, samples=run.counts[name]["samples"],
         skipped=run.totals["skipped"], losses=run.history.series["loss"].y,
         weights=torch.cat([w.flatten() for w in run.weights(averaged=False).values()]).tolist())
"""
)


def joined(turns):
    """Weights, losses and mean output of one process that is trained on two epochs of these batches."""
    torch.manual_seed(4)
    double = {"dtype": torch.float64}
    model = nn.Sequential(nn.Linear(2, 4, **double), nn.Tanh(), nn.Linear(4, 1, **double))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for turn in turns:
        optimizer.zero_grad()
        loss = model(torch.tensor(turn, **double)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        mean = model(torch.tensor([*chain(*turns[: len(turns) // 2])], **double)).mean().item()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(), losses, mean


WHOLE = {
    "stream of one": [0], "stream of four": [0, 1, 2, 3], "function": [0, 1, 2],
    "sampler without a length": [0], "batch sampler": [0, 3, 4], "one sample": [0],
}  # fmt: skip
SHARDED = [0, 0, 1, 1, 2, 3, 4, 5]  # one batch of the first rank's, three of the third's


@pytest.mark.parametrize(
    ("size", "parallel"),
    [
        (3, "ddp"),
        pytest.param(3, "fsdp", marks=pytest.mark.long),
        pytest.param(2, "ddp", marks=pytest.mark.long),
    ],
)
def test_training(ranks, size, parallel):
    """No sample is lost or counted twice, and the weights are those of one process on the joined batches."""
    told = ranks.run(TRAINED, size, PARALLEL=json.dumps(parallel))
    without = set()
    for several in zip(*told, strict=True):
        name = several[0]["name"]
        parts = zip(*(one["turns"] for one in several), strict=True)
        turns = [[*chain(*part)] for part in parts]
        half = len(turns) // 2
        for epoch in (turns[:half], turns[half:]):
            seen = sorted(round(x - 1) for turn in epoch for x, _ in turn)
            assert seen == WHOLE.get(name, [0, 1] if size == 2 else SHARDED), name
        without |= {name for one in several if not any(one["turns"])}
        weights, losses, mean = joined(turns)
        for one in several:
            assert one["samples"] == sum(map(len, turns))
            assert one["skipped"] == 0
            assert one["evaluated"][1:] == [len(seen), pytest.approx(mean, abs=1e-12)]
            assert one["losses"] == pytest.approx(losses, abs=1e-12)
            assert one["weights"] == pytest.approx(weights, abs=1e-12)
    assert without == {*WHOLE, "sharded"} - {"stream of four"}  # the control


KILLED = """
import hashlib, signal
from torch.utils.data import IterableDataset
def digest(*tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()
class Own(IterableDataset):
    def __init__(self): self.draw = torch.Generator().manual_seed(RANK)
    def __iter__(self):
        for _ in range([13, 0, 5][RANK]): yield torch.rand(2, generator=self.draw)
lw.seed(7)
model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
run = lw.Run("run", model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.01), progress=False,
             checkpoint=lw.Checkpoint(every_steps=1))
here = 0
for step in run.loop(DataLoader(Own(), batch_size=2), epochs=2, sharded=True):
    if step.index == int(os.environ.get("AT", -1)) and RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    step.backward(run.model(step.batch).square().mean())
    step.update()
    here += 1
tell(weights=digest(*model.parameters()), random=digest(torch.get_rng_state()), turns=run.counts["0"]["turn"],
     rows=[row.values for row in run.history.epochs] if RANK == 0 else None, here=here)
"""


@pytest.mark.long
def test_killed_while_it_keeps_step(ranks):
    """An epoch goes on with the same bits where a rank had none of its batches, and another one no more."""
    ((whole, *others),) = zip(*ranks.run(KILLED, 3), strict=True)
    assert whole["turns"] == 14  # 13, 0 and 5 samples in batches of 2, twice
    (ranks.folder / "run").rename(ranks.folder / "whole")
    for at in (2, 5, 9, 12):
        ended = [one.wait(60) for one in ranks.start(KILLED, 3, AT=str(at))]
        assert ended[1].rc == -9, ended[0].err
    ((resumed, *rest),) = zip(*ranks.run(KILLED, 3), strict=True)
    assert resumed.pop("here") <= 3 < whole.pop("here")
    assert resumed == whole
    for one, other in zip(others, rest, strict=True):
        assert {**one, "here": 0} == {**other, "here": 0}


NOT_SENT = """
from collections import namedtuple
from torch.utils.data import IterableDataset
Pair = namedtuple("Pair", "x y")
class Stream(IterableDataset):
    def __iter__(self): yield Pair(torch.ones(2), 1)
class Takes(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
    def forward(self, pair): return self.linear(pair.x)
run = lw.Run(model=Takes(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), progress=False, parallel="fsdp")
loader = DataLoader(Stream(), batch_size=1)
trains = os.environ["HOW"] == "train"
try:
    for batch in run.loop(loader, epochs=1) if trains else run.evaluate(loader):
        run.model(batch)
except lw.DataError as error:
    tell(error=str(error))
    raise
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["train", "evaluate"])
def test_what_cannot_be_sent(ranks, how):
    """A batch of a kind that no rank can be sent without pickle ends the run, with the kind and a way out."""
    ended = [one.wait(60) for one in ranks.start(NOT_SENT, 2, HOW=how)]
    assert [one.rc for one in ended] == [1, 1]
    (told,) = ranks.told(2, 1)
    assert "[rank-without-data]" in told["error"]
    assert "it holds a Pair" in told["error"]
    assert "dicts, lists or tuples of tensors" in told["error"]


RAGGED = """
torch.set_default_dtype(torch.float64)
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(11, 5, generator=draw), torch.randn(11, 1, generator=draw)
def model_(norm):
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 6), norm, nn.Tanh(), nn.Linear(6, 1))
loader = DataLoader(TensorDataset(x, y), batch_size=4)
for norm in (nn.Identity, lambda: nn.BatchNorm1d(6)):
    model = model_(norm())
    run = lw.Run(model=model, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), progress=False,
                 parallel=os.environ["PARALLEL"])
    turns, seen = [], lw.Sum()
    for step in run.loop(loader, epochs=2):
        a, b = step.batch
        padding = run.active.source.padding
        turns.append(0 if padding else len(a))
        step.backward((run.model(a) - b).square().mean())
        step.update()
    mean = lw.Mean()
    for a, b in run.evaluate(loader):
        mean.update((run.model(a) - b).square())
    mean = mean.compute()
    run.close()
    weights = run.weights(averaged=False)
    other, losses = model_(nn.Identity()), []
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for epoch in range(2):
        for part in (slice(0, 8), slice(8, 11)):
            optimizer.zero_grad()
            loss = (other(x[part]) - y[part]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    plain = [w.flatten() for n, w in weights.items() if not n.startswith("1.")]
    apart = torch.cat(plain) - torch.cat([p.detach().flatten() for p in other.parameters()])
    exact = (other(x) - y).square().mean().item()
    tell(turns=turns, samples=run.totals["samples"], apart=apart.abs().max().item(),
         losses=(torch.tensor(run.history.series["loss"].y) - torch.tensor(losses)).abs().max().item(),
         mean=abs(mean - exact), skipped=run.totals["skipped"])
"""


@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.long)])
def test_a_ragged_end_under_batch_norm(ranks, parallel):
    """A last turn of three samples goes to one rank of two: of one, BatchNorm has no variance.

    Without BatchNorm, weights, losses and the evaluation are those of one process on the joined batches.
    """
    told = ranks.run(RAGGED, 2, PARALLEL=parallel)
    for rank, (plain, normed) in enumerate(told):
        assert plain["turns"] == normed["turns"] == [4, [3, 0][rank]] * 2
        assert plain["samples"] == normed["samples"] == 22
        assert plain["skipped"] == normed["skipped"] == 0
        assert max(plain["apart"], plain["losses"], plain["mean"]) < 1e-12
        assert normed["apart"] > 1e-3  # the control


PARTS = """
torch.set_default_dtype(torch.float64)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.middle, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
    def forward(self, x): return self.head(self.middle(self.encoder(x)).relu())
    def encode(self, x): return self.encoder(x).relu()
torch.manual_seed(0)
model, x = Net(), torch.randn(8, 4)
with torch.no_grad():
    expected = {"block": model.encoder(x[:3]), "method": model.encode(x[:3]),
                "two": model.head(model.encoder(x[:3])), "also": model.encoder(x[:3])}
    expected = {how: one.mean(1).tolist() for how, one in expected.items()}
run = lw.Run(model=model, optimizer=lambda p: torch.optim.SGD(p, lr=0.0), progress=False,
             parallel={"strategy": "fsdp", "blocks": ["encoder", "head"], "timeout_s": 30})
parts = {
    "block": lambda a: run.model.encoder(a), "method": lambda a: run.model.encode(a),
    "two": lambda a: run.model.head(run.model.encoder(a)),
    "also": lambda a: (run.model(a), run.model.encoder(a))[1],
}
for step in run.loop(DataLoader(TensorDataset(x), batch_size=4), epochs=1):
    step.backward(run.model(step.batch[0]).square().mean())
    step.update()
    for how, part in parts.items():
        for samples in (3, 1):  # the second rank has fewer batches, and none at all
            mean = lw.Mean()
            for (a,) in run.evaluate(DataLoader(TensorDataset(x[:samples]), batch_size=1)):
                mean.update(part(a).mean(1))
            wanted = sum(expected[how][:samples]) / samples
            tell(how=how, samples=samples, apart=abs(mean.compute() - wanted))
if os.environ.get("WHOLE"):
    for (a,) in run.evaluate(DataLoader(TensorDataset(x), batch_size=1)):
        run.model.middle(torch.ones(1, 8))
"""


def test_parts_of_a_sharded_model(ranks):
    """A rank that has no batch follows calls of blocks, too; what is no block is refused with the way out."""
    ended = [one.wait(90) for one in ranks.start(PARTS, 2, WHOLE="yes")]
    for rank, end in enumerate(ended):
        told = ranks.told(2, rank)
        assert len(told) == 8, end.err
        assert all(one["apart"] < 1e-12 for one in told)
        assert "gathers only with the whole was called by itself: run.model(inputs)" in end.err
    assert [end.rc for end in ended] == [1, 1]
