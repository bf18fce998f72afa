"""Kill any rank at any turn, run the same command again: the same bits; signals save on all ranks."""

from __future__ import annotations

import json
import signal
import time

import pytest

PROGRAM = """
import hashlib, signal, time
from torch.utils.data import IterableDataset
def digest(*tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()
class Stream(IterableDataset):
    def __iter__(self):
        for i in torch.randperm(23).tolist():
            yield x[i] + 0.01 * torch.rand(4), y[i]
how, at, who = os.environ.get("HOW", ""), int(os.environ.get("AT", -1)), int(os.environ.get("WHO", 0))
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(23, 4, generator=draw), torch.randint(0, 2, (23,), generator=draw)
lw.seed(7)
norm = nn.LayerNorm(6) if "PLAIN" in os.environ else nn.BatchNorm1d(6)
model = nn.Sequential(nn.Linear(4, 6), norm, nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 2))
data = TensorDataset(x, y)
loader = (DataLoader(Stream(), batch_size=3) if os.environ.get("DATA") == "stream"
          else DataLoader(data, batch_size=3, shuffle=True))
run = lw.Run("run", model=model, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01), ema=0.9,
             accumulate=int(os.environ.get("ACCUMULATE", 3)), clip=1.0, progress=False,
             scheduler=lw.warmup_constant(2),
             checkpoint=lw.Checkpoint(every_steps=int(os.environ.get("EVERY", 1))))
draws = []
with run:
    for step in run.loop(loader, epochs=int(os.environ.get("EPOCHS", 4))):
        if step.index == at and RANK == who and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if step.index == at and RANK == who and how == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if step.index == at and RANK == who and how == "raise":
            raise RuntimeError("the user's own")
        if step.index == at and RANK == who and how == "sleep":
            tell(asleep=True)
            time.sleep(1000)
        a, b = step.batch
        if "PLAIN" in os.environ and not getattr(run.active.source, "padding", False):
            with open(f"seen-{step.epoch}", "a") as file:
                print(*[int((x == row).all(1).nonzero()) for row in a], file=file)
        step.backward(nn.functional.cross_entropy(run.model(a), b))
        step.update()
        draws.append(torch.get_rng_state()[:64].sum().item())
        if step.ends_epoch:
            accuracy = lw.Accuracy()
            for a, b in run.evaluate(DataLoader(data, batch_size=4)):
                accuracy.update(run.model(a), b)
            step.log(accuracy=accuracy)
            run.keep_best("accuracy")
    with run.averaged():
        averaged = digest(*model.parameters(), *model.buffers())
tell(weights=digest(*model.parameters()), buffers=digest(*model.buffers()), averaged=averaged,
     turns=run.counts["0"]["turn"],
     rows=[row.values for row in run.history.epochs] if RANK == 0 else None,
     best=run.best, random=digest(torch.get_rng_state()), dropped=draws[-1:], here=len(draws))
"""


def last(told):
    """What every rank has told at its end."""
    return [mine[-1] for mine in told]


def same(one, other) -> bool:
    """Whether two endings are the same, but for how many turns the last process has made."""
    return [{k: v for k, v in rank.items() if k != "here"} for rank in one] == [
        {k: v for k, v in rank.items() if k != "here"} for rank in other
    ]


def interrupt(ranks, how, at, who, size=2, **env):
    """Run the program until one rank is interrupted; returns how each process ended."""
    started = ranks.start(PROGRAM, size, HOW=how, AT=str(at), WHO=str(who), **env)
    return [one.wait(60) for one in started]


def fresh(ranks):
    """Take the run folder away."""
    import shutil

    shutil.rmtree(ranks.folder / "run", ignore_errors=True)


def test_killed_and_stopped(ranks):
    """A rank that is killed, and a signal to one rank, leave a run that goes on with the same bits."""
    whole = last(ranks.run(PROGRAM, 2))
    # 23 samples, 2 ranks, batches of 3, 4 epochs
    assert [one["turns"] for one in whole] == [16, 16]
    assert whole[0]["weights"] == whole[1]["weights"]
    assert whole[0]["random"] != whole[1]["random"]
    fresh(ranks)

    ended = interrupt(ranks, "kill", 7, 1)
    assert ended[1].rc == -signal.SIGKILL
    assert ended[0].rc == 1
    assert "rank 1" in ended[0].err or "another rank" in ended[0].err
    ended = interrupt(ranks, "term", 10, 1)
    assert [one.rc for one in ended] == [143, 143], ended[0].err
    meta = json.loads((ranks.folder / "run" / "outcome.json").read_text())
    assert meta["outcome"]["kind"] == "interrupted"
    resumed = last(ranks.run(PROGRAM, 2))
    assert 0 < resumed[0]["here"] < 7
    assert same(resumed, whole)


@pytest.mark.long
def test_killed_in_the_last_window(ranks):
    """A run that goes on inside a window leaves each rank the BatchNorm's buffers that it would have had."""
    alone = {"EPOCHS": "1", "ACCUMULATE": "4"}  # one window of 4 turns
    whole = last(ranks.run(PROGRAM, 2, **alone))
    assert whole[0]["buffers"] != whole[1]["buffers"]
    fresh(ranks)
    interrupt(ranks, "kill", 3, 1, **alone)
    assert same(last(ranks.run(PROGRAM, 2, **alone)), whole)


@pytest.mark.long
@pytest.mark.parametrize("data", ["map", "stream"])
def test_killed_anywhere(ranks, data):
    """Whichever rank is killed at whichever turn: the same bits."""
    whole = last(ranks.run(PROGRAM, 2, DATA=data, EVERY="2"))
    for at in range(1, whole[0]["turns"], 3):
        fresh(ranks)
        interrupt(ranks, "kill", at, at % 2, DATA=data, EVERY="2")
        assert same(last(ranks.run(PROGRAM, 2, DATA=data, EVERY="2")), whole), at


@pytest.mark.long
def test_other_world_sizes(ranks):
    """Another number of ranks, and one process alone, go on, and say that the bits may differ."""
    fresh(ranks)
    more = {"PLAIN": "1", "EPOCHS": "6"}
    interrupt(ranks, "term", 8, 0, **more)  # in the third epoch, in an open window
    for size in (3, 1):
        started = ranks.start(PROGRAM, size, HOW="term" if size == 3 else "", AT="11", **more)
        ended = [one.wait(60) for one in started]
        assert "ranks" in ended[0].err
        assert "bits may differ" in ended[0].err
        assert [one.rc for one in ended] == ([143] * 3 if size == 3 else [0]), [
            one.err for one in ended
        ]
    # The epoch that 2 ranks began and 3 have ended: each sample, and those of the open window again.
    seen = [int(word) for word in (ranks.folder / "seen-2").read_text().split()]
    assert set(seen) == set(range(23))
    assert len(seen) - 23 in (0, 6, 12)
    (alone,) = last([ranks.told(1, 0)])
    assert alone["turns"] > 11


ELASTIC = """
import signal
at = int(os.environ["AT"])
data = TensorDataset(torch.arange(72.0).reshape(72, 1))
model = nn.Linear(1, 1)
run = lw.Run("run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-6), progress=False,
             checkpoint=lw.Checkpoint(every_steps=1))
with run:
    for step in run.loop(DataLoader(data, batch_size=2, shuffle=True), epochs=1):
        (x,) = step.batch
        if not run.active.source.padding:
            with open("seen", "a") as file:
                print(*x.int().flatten().tolist(), file=file)
        if step.index == at and RANK == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        step.backward(run.model(x).mean())
        step.update()
"""


@pytest.mark.long
def test_an_epoch_of_several_sizes(ranks):
    """2 ranks, then 3, then 3 again, then 2 in one epoch: together they see each sample once."""
    for size, at in ((2, 3), (3, 7), (3, 9), (2, -1)):
        for one in ranks.start(ELASTIC, size, AT=str(at)):
            end = one.wait(60)
            assert end.rc == (0 if at < 0 else 143), end.err
    seen = [int(word) for word in (ranks.folder / "seen").read_text().split()]
    assert sorted(seen) == list(range(72))


@pytest.mark.long
def test_a_rank_with_an_exception(ranks):
    """The rank that failed shows its traceback, the others one line, and nothing hangs."""
    began = time.monotonic()
    ended = interrupt(ranks, "raise", 1, 1, size=3)
    assert time.monotonic() - began < 60
    assert [one.rc for one in ended] == [1, 1, 1]
    assert "RuntimeError: the user's own" in ended[1].err
    for other in (ended[0], ended[2]):
        assert "Traceback" not in other.err
        assert "another rank" in other.err
