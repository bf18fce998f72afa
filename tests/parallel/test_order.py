"""The order of an epoch whose processes change in number: one order, each sample once, whoever goes on."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import DataLoader

from loopwright.parallel.one import OneRank
from loopwright.train.process import randomness
from loopwright.train.ranks.source import SharedSource

PROGRAM = """
import signal
from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, Sampler
kind, at, how = os.environ["KIND"], int(os.environ["AT"]), os.environ.get("HOW", "term")
data = TensorDataset(torch.arange(71.0).reshape(71, 1))
class Twos(Sampler):
    def __len__(self):
        return 36
    def __iter__(self):
        order = torch.randperm(71).tolist()
        return (order[i : i + 2] for i in range(0, 71, 2))
class Drawing(Sampler):
    def __len__(self):
        return 71
    def __iter__(self):
        left = list(range(71))
        while left:
            yield left.pop(int(torch.randint(len(left), ())))
class Read(IterableDataset):
    def __init__(self):
        self.draw = torch.Generator().manual_seed(5)
    def __iter__(self):
        return (torch.tensor([float(i)]) for i in torch.randperm(71, generator=self.draw))
class Batches:
    def __len__(self):
        return 36
    def __iter__(self):
        return ([part] for part in torch.randperm(71).float().reshape(71, 1).split(2))
lw.seed(3)
own = torch.Generator().manual_seed(4)
loader = {
    "shuffle": lambda: DataLoader(data, batch_size=2, shuffle=True),
    "own": lambda: DataLoader(data, batch_size=2, shuffle=True, generator=own),
    "sampler": lambda: DataLoader(data, batch_size=2, sampler=RandomSampler(
        data, generator=torch.Generator().manual_seed(4))),
    "workers": lambda: DataLoader(data, batch_size=2, shuffle=True, num_workers=2, persistent_workers=True),
    "batches": lambda: DataLoader(data, batch_sampler=Twos()),
    "read": lambda: DataLoader(Read(), batch_size=2),
    "sized": Batches,
    "drawing": lambda: DataLoader(data, batch_size=2, sampler=Drawing()),
    "reading": lambda: lambda: (torch.rand(2, 1) for _ in range(36)),
}[kind]()
model = nn.Sequential(nn.Dropout(0.1), nn.Linear(1, 1))
run = lw.Run("run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-6), progress=False,
             parallel=os.environ.get("PARALLEL", "ddp"), checkpoint=lw.Checkpoint(every_steps=1),
             accumulate=int(os.environ.get("ACCUMULATE", 1)))
with run:
    for step in run.loop(loader, epochs=int(os.environ.get("EPOCHS", 3))):
        x = step.batch if torch.is_tensor(step.batch) else step.batch[0]
        if step.index == at and RANK == 0 and how == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if step.index == at and how == "raise":
            raise RuntimeError("the user's own")
        step.backward(run.model(x).mean())
        step.update()
        if not getattr(run.active.source, "padding", False):
            with open(f"seen-{RANK}", "a") as file:
                print(json.dumps([step.index, step.epoch, x.int().flatten().tolist()]), file=file)
"""


def go(ranks, size, at=-1, **env):
    """Run the program on so many processes, until turn ``at``; returns what the first said."""
    ended = [one.wait(60) for one in ranks.start(PROGRAM, size, AT=str(at), **env)]
    rc = 0 if at < 0 else 1 if env.get("HOW") == "raise" else 143
    assert [one.rc for one in ended] == [rc] * size, [one.err for one in ended]
    return ended[0].err


def seen(ranks, kind="shuffle"):
    """The samples of each epoch in the order of all processes together; forgets them."""
    turns = {}
    for file in sorted(ranks.folder.glob("seen-*")):
        for line in file.read_text().splitlines():
            turn, epoch, samples = json.loads(line)
            turns.setdefault((epoch, turn), []).append(samples)
        file.unlink()
    orders = {}
    for (epoch, _), parts in sorted(turns.items()):
        if kind in ("batches", "sized"):
            orders.setdefault(epoch, []).extend(sample for part in parts for sample in part)
            continue
        # Of a piece of the order the ranks have every n-th sample each.
        width = max(map(len, parts))
        orders.setdefault(epoch, []).extend(
            part[i] for i in range(width) for part in parts if i < len(part)
        )
    return [orders[epoch] for epoch in sorted(orders)]


def fresh(ranks):
    """Take the run folder away."""
    import shutil

    shutil.rmtree(ranks.folder / "run")


def are_whole(orders):
    """Whether these are three epochs with each sample once, each in another order."""
    return [sorted(one) for one in orders] == [list(range(71))] * 3 and orders[0] != orders[1]


def test_the_seed_is_in_the_first_checkpoint():
    """What makes the order is known to the state before the first epoch begins: ranks may go on there."""
    before, after = (
        SharedSource(DataLoader(range(40), batch_size=4, shuffle=True), world=OneRank(), even=True)
        for _ in range(2)
    )
    before.set_seed(5)
    after.load_state_dict(before.state_dict())
    device = torch.device("cpu")
    after.resume_epoch(device, randomness.snapshot(), before_restore=lambda: None)
    before.start_epoch()
    orders = [[one.fetch().tolist() for _ in range(10)] for one in (before, after)]
    assert orders[0] == orders[1] != [[*range(i, i + 4)] for i in range(0, 40, 4)]
    other = SharedSource(DataLoader(range(40), batch_size=4, shuffle=True), world=OneRank())
    other.start_epoch()
    assert other.fetch().tolist() != orders[0][0]


@pytest.mark.long
def test_from_one_process_to_two_ranks_and_back(ranks):
    """An epoch that one process has begun keeps the plain loader's order, whoever goes on."""
    go(ranks, 1, KIND="shuffle", EPOCHS="1")
    (plain,) = seen(ranks)
    assert sorted(plain) == list(range(71))
    fresh(ranks)
    for size, at in ((1, 9), (2, 14), (1, -1)):  # of 36 turns
        said = go(ranks, size, at=at, KIND="shuffle", EPOCHS="1")
        assert ("bits may differ" in said) == (size == 2)  # the run was begun by one
        assert "other-order" not in said
    assert seen(ranks) == [plain]


KINDS = ("shuffle", "own", "sampler", "workers", "batches", "read", "sized")


@pytest.mark.long
@pytest.mark.parametrize("kind", [*KINDS, "drawing"])
def test_from_two_ranks_to_one_process(ranks, kind):
    """One process alone goes on in the ranks' order; where it is theirs to draw, in later epochs too."""
    go(ranks, 2, KIND=kind)
    whole = seen(ranks, kind)
    assert are_whole(whole)
    fresh(ranks)
    go(ranks, 2, at=7, KIND=kind)  # of 18 turns an epoch
    said = go(ranks, 1, at=22, KIND=kind)
    assert "bits may differ" in said
    go(ranks, 2, at=47, KIND=kind)
    said += go(ranks, 1, KIND=kind)
    assert "other-order" not in said
    orders = seen(ranks, kind)
    assert are_whole(orders)
    if kind in ("own", "sampler", "read"):  # a generator of its own has gone on otherwise
        assert orders[0] == whole[0]
    else:
        assert orders == whole


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_from_one_process_to_two_ranks(ranks, kind):
    """The epoch that one process has begun keeps its order with every kind of loader."""
    go(ranks, 1, KIND=kind)
    alone = seen(ranks, kind)
    assert are_whole(alone)
    fresh(ranks)
    go(ranks, 1, at=45, KIND=kind)  # in the second epoch of 36 turns
    said = go(ranks, 2, at=50, KIND=kind)
    go(ranks, 2, KIND=kind)
    orders = seen(ranks, kind)
    assert are_whole(orders)
    assert orders[:2] == alone[:2]
    assert "other-order" not in said


@pytest.mark.long
@pytest.mark.parametrize("kind", ["drawing", "reading"])
def test_data_that_draw_at_each_sample(ranks, kind):
    """What one process drew between its training's draws can't be drawn again, and that is said."""
    go(ranks, 1, at=45, KIND=kind)
    assert "other-order" in go(ranks, 2, KIND=kind)


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_exceptions_and_open_windows(ranks, parallel):
    """After an exception in one process, and inside open windows, no sample is left out."""
    around = {"KIND": "shuffle", "PARALLEL": parallel, "ACCUMULATE": "3"}
    go(ranks, 2, **around)
    whole = seen(ranks)
    assert are_whole(whole)
    fresh(ranks)
    go(ranks, 2, at=7, **around)  # the second turn of a window
    go(ranks, 1, at=11, HOW="raise", **around)
    go(ranks, 1, at=24, HOW="raise", **around)
    go(ranks, 3, **around)
    orders = seen(ranks)
    # What was trained on and not yet stepped is trained on again: then an order goes back a little.
    for order, uninterrupted in zip(orders, whole, strict=True):
        assert list(dict.fromkeys(order)) == uninterrupted
        assert len(order) - 71 <= 2 * 2 * 3
