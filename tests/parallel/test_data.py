"""Uneven ends, metrics and loops over any loader, in real processes."""

from __future__ import annotations

import pytest

EVALUATED = """
from torch.utils.data import Dataset, IterableDataset
samples = int(os.environ["SAMPLES"])
draw = torch.Generator().manual_seed(1)
x = torch.randn(samples, 3, generator=draw)
y = torch.randint(0, 3, (samples,), generator=draw)
data = TensorDataset(x, y)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
exact = {}
for step in run.loop(DataLoader(TensorDataset(x.repeat(4, 1), y.repeat(4)), batch_size=4), epochs=1):
    a, b = step.batch
    step.backward(nn.functional.cross_entropy(run.model(a), b))
    step.update()
    if step.ends_epoch:
        accuracy, loss, count, right, seen = lw.Accuracy(), lw.Mean(), lw.Sum(), 0, 0
        shown = lw.Predictions(classes=3)
        for a, b in run.evaluate(DataLoader(data, batch_size=3)):
            out = run.model(a)
            accuracy.update(out, b)
            loss.update(nn.functional.cross_entropy(out, b, reduction="none"))
            count.update(len(a))
            shown.update(out, b)
            right += int((out.argmax(1) == b).sum())
            seen += len(a)
        step.log(accuracy=accuracy, by_hand=right / max(seen, 1), seen=count)
        run.keep_best("accuracy")
        computed = [accuracy.compute(), loss.compute(), count.compute()]
        record = run.parts.of_all(shown.record())
        model.eval()
        with torch.no_grad():
            out = model(x)
        hits = (out.argmax(1) == y).double().mean().item()
        exact = {"accuracy": hits, "loss": nn.functional.cross_entropy(out.double(), y).item()}
        counts = torch.zeros(3, 3, dtype=torch.int64)
        for t, p in zip(y.tolist(), out.argmax(1).tolist()):
            counts[t][p] += 1
        losses = nn.functional.cross_entropy(out, y, reduction="none")
        worst = losses.sort(descending=True).indices[: len(record.worst)].tolist()
        model.train()
row = run.history.epochs[-1].values
tell(row=row, computed=computed, exact=exact, seen=seen, best=run.best,
     same_counts=record.counts == counts.tolist(),
     worst=[w.index for w in record.worst] == worst)
"""


@pytest.mark.parametrize(
    ("size", "samples"),
    [
        pytest.param(2, 11, marks=pytest.mark.long),
        (3, 11),
        pytest.param(4, 10, marks=pytest.mark.long),
    ],
)
def test_no_sample_is_counted_twice(ranks, size, samples):
    """Metrics over shares of unequal size are those of the whole data set, on every rank."""
    told = ranks.run(EVALUATED, size, SAMPLES=str(samples))
    for ((one,),) in zip(told, strict=True):
        assert one["row"]["accuracy"] == pytest.approx(one["exact"]["accuracy"], abs=1e-12)
        assert one["row"]["by_hand"] == pytest.approx(one["exact"]["accuracy"], abs=1e-12)
        assert one["row"]["seen"] == samples
        assert one["computed"][0] == one["row"]["accuracy"] == one["best"]["accuracy"]["value"]
        assert one["computed"][1] == pytest.approx(one["exact"]["loss"], abs=1e-6)
        assert one["computed"][2] == samples
        assert one["same_counts"]
        assert one["worst"]
    assert sum(one["seen"] for (one,) in told) == samples
    assert len({one["seen"] for (one,) in told}) == 2  # the control: shares were unequal


TRAINED = """
data = TensorDataset(torch.arange(10.0).reshape(10, 1), torch.arange(10) % 2)
model = nn.Linear(1, 2)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3), progress=False)
total, mean, accuracy, predictions = lw.Sum(), lw.Mean(), lw.Accuracy(), lw.Predictions()
for step in run.loop(DataLoader(data, batch_size=4), epochs=1):
    x, y = step.batch
    step.backward(nn.functional.cross_entropy(run.model(x), y))
    step.update()
    perfect = torch.nn.functional.one_hot(y, 2) * (x < 9)
    total.update(x)
    mean.update(x)
    accuracy.update(perfect.float(), y)
    predictions.update(perfect.float(), y)
    if step.ends_epoch:
        exact = lw.Sum()
        for x, _ in run.evaluate(DataLoader(data, batch_size=4)):
            exact.update(x)
        step.log(total=total, mean=mean, accuracy=accuracy, exact=exact)
tell(row=run.history.epochs[-1].values, seen=predictions._samples)
"""


def test_a_batch_that_pads_a_turn_is_in_no_metric(ranks):
    """10 samples on two ranks: one has no batch in the last turn, and its part of an evaluation."""
    told = [mine[-1] for mine in ranks.run(TRAINED, 2)]
    assert sorted(one["seen"] for one in told) == [4, 6]
    for one in told:
        assert (one["row"]["total"], one["row"]["mean"], one["row"]["exact"]) == (45.0, 4.5, 45.0)
        assert one["row"]["accuracy"] == pytest.approx(0.9)


LOADERS = """
from torch.utils.data import Dataset, IterableDataset
class Numbers(Dataset):
    def __len__(self): return 10
    def __getitem__(self, i): return torch.tensor([float(i)])
class Stream(IterableDataset):
    def __init__(self, n=7): self.n = n
    def __iter__(self):
        for i in torch.randperm(self.n).tolist(): yield torch.tensor([float(i)])
def batches():
    for i in range(7): yield torch.tensor([[float(i)]])
class Own:
    def __len__(self): return 5
    def __iter__(self):
        for i in range(5): yield torch.tensor([[2.0 * i], [2.0 * i + 1]])
loaders = {
    "shuffled": DataLoader(Numbers(), batch_size=3, shuffle=True),
    "one too many": DataLoader(Numbers(), batch_size=3),
    "stream": DataLoader(Stream(), batch_size=2),
    "stream of nine": DataLoader(Stream(9), batch_size=2),
    "function": batches,
    "own": Own(),
    "sharded": [torch.tensor([[1.0 * RANK]])] * (2 + RANK),
}
model = nn.Linear(1, 1)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), progress=False)
for name, loader in loaders.items():
    epochs = []
    for step in run.loop(loader, epochs=2, name=name, sharded=name == "sharded"):
        if step.index == 0 or epochs[-1]["ended"]:
            epochs.append({"seen": [], "turns": 0, "ended": False})
        if not run.active.source.padding:
            epochs[-1]["seen"] += step.batch.flatten().tolist()
        epochs[-1]["turns"] += 1
        epochs[-1]["ended"] = step.ends_epoch
        step.backward(run.model(step.batch).square().mean())
        step.update()
    counts = run.counts[name]
    tell(name=name, epochs=epochs, samples=counts["samples"], skipped=counts["skipped"])
for limits in ({"samples": 17}, {"steps": 3}):
    for step in run.loop(loaders["shuffled"], name=str(limits), **limits):
        step.backward(run.model(step.batch).square().mean())
        step.update()
    tell(name=str(limits), turns=step.index + 1, samples=run.counts[str(limits)]["samples"])
for step in run.loop(loaders["shuffled"], epochs=9, name="stop"):
    step.backward(run.model(step.batch).square().mean())
    step.update()
    if RANK == SIZE - 1 and step.index == 4:
        run.stop("enough")
tell(name="stop", turns=step.index + 1, reason=run.outcome.reason)
"""


def test_any_loader(ranks):
    """Every rank has as many turns as the others, and together they see each sample once an epoch."""
    told = ranks.run(LOADERS, 2)
    by_name = [{one["name"]: one for one in mine} for mine in told]
    whole = {
        "shuffled": 10, "one too many": 10, "stream": 7, "stream of nine": 9, "function": 7, "own": 10
    }  # fmt: skip
    for name, samples in whole.items():
        for epoch in (0, 1):
            one, other = (mine[name]["epochs"][epoch] for mine in by_name)
            assert one["turns"] == other["turns"]
            assert sorted(one["seen"] + other["seen"]) == list(range(samples)), name
            assert one["ended"]
        assert [mine[name]["samples"] for mine in by_name] == [2 * samples] * 2, name
        assert [mine[name]["skipped"] for mine in by_name] == [0, 0]
    for name in ("shuffled", "stream"):
        first, second = (by_name[0][name]["epochs"][epoch]["seen"] for epoch in (0, 1))
        assert first != second
    # Loaders of the ranks' own, of 2 and 3 batches: the shorter one pads.
    assert [mine["sharded"]["epochs"][0]["turns"] for mine in by_name] == [3, 3]
    assert [mine["sharded"]["epochs"][0]["seen"] for mine in by_name] == [[0, 0], [1, 1, 1]]
    # 10 samples in turns of 6 and 4 make 17 in the fourth turn.
    for mine in by_name:
        assert mine["{'samples': 17}"]["turns"] == 4
        assert mine["{'samples': 17}"]["samples"] == 20
        assert mine["{'steps': 3}"]["turns"] == 3
        assert mine["stop"]["turns"] == 6
    assert {mine["stop"]["reason"] for mine in by_name} == {"enough", "another rank asked for it"}
