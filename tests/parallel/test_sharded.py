"""FSDP2: sharded models train, validate, save and go on as whole ones do."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal

import pytest

PROGRAM = """
import hashlib, signal, threading
from torch.distributed.fsdp import FSDPModule
how, at, who = os.environ.get("HOW", ""), int(os.environ.get("AT", -1)), int(os.environ.get("WHO", 0))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.norm = nn.LayerNorm(6) if "PLAIN" in os.environ else nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)
    def forward(self, x):
        x = self.first(x).relu()
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.last(nn.functional.dropout(self.norm(x), 0.2, self.training))
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(23, 4, generator=draw), torch.randint(0, 3, (23,), generator=draw)
lw.seed(7)
with torch.device("meta" if "META" in os.environ else "cpu"):
    model = Net()
given = lambda params: torch.optim.AdamW(params, lr=0.01)
if "BUILT" in os.environ:
    given = torch.optim.AdamW(model.parameters(), lr=0.01)
data = TensorDataset(x, y)
run = lw.Run("run", model=model, optimizer=given, accumulate=2, clip=1.0, progress=False,
             parallel=json.loads(os.environ.get("PARALLEL", '"fsdp"')),
             ema=0.8 if "EMA" in os.environ else None,
             checkpoint=lw.Checkpoint(every_steps=int(os.environ.get("EVERY", 3))))
sharded = [name for name, part in model.named_modules() if isinstance(part, FSDPModule)]
counts = []
with run:
    for step in run.loop(DataLoader(data, batch_size=3, shuffle=True), epochs=3):
        if step.index == at and RANK == who and how == "later":
            kill = (os.getpid(), signal.SIGKILL)
            threading.Timer(float(os.environ["DELAY"]), os.kill, kill).start()
        elif step.index == at and RANK == who and how:
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGTERM)
        a, b = step.batch
        step.backward(nn.functional.cross_entropy(run.model(a), b))
        step.update()
        if step.ends_epoch:
            accuracy, seen = lw.Accuracy(), lw.Sum()
            for a, b in run.evaluate(DataLoader(data, batch_size=2)):
                accuracy.update(run.model(a), b)
                seen.update(len(a))
            step.log(accuracy=accuracy, seen=seen)
            run.keep_best("accuracy")
    whole, averaged = run.weights(averaged=False), run.weights(averaged=True)
    trained = [name for name, _ in model.named_parameters()]  # without BatchNorm's buffers, each rank's own
    local = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())
    run.load_best()
    best = run.weights(averaged=False)
digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in whole.values())).hexdigest()
tell(weights=digest, turns=run.counts["0"]["turn"], sharded=sharded, local=local,
     total=sum(p.numel() for p in model.parameters()),
     rows=[row.values for row in run.history.epochs] if RANK == 0 else None, best=run.best,
     kept=hashlib.sha256(b"".join(w.numpy().tobytes() for w in best.values())).hexdigest(),
     numbers=torch.cat([whole[name].flatten().double() for name in trained]).tolist(),
     averaged=torch.cat([averaged[name].flatten().double() for name in trained]).tolist())
"""


def fresh(ranks):
    """Take the run folder away."""
    import shutil

    shutil.rmtree(ranks.folder / "run", ignore_errors=True)


def close(some, others) -> bool:
    """Whether numbers are the same but for rounding in float32."""
    return max(abs(a - b) for a, b in zip(some, others, strict=True)) < 1e-5


def test_sharded(ranks):
    """Each rank holds a part; the weights are DDP's, also of an optimizer that was built before."""
    (plain, *_) = [mine[-1] for mine in ranks.run(PROGRAM, 2, PARALLEL='"ddp"', EMA="1")]
    fresh(ranks)
    told = [mine[-1] for mine in ranks.run(PROGRAM, 2, BUILT="1", EMA="1")]
    for one in told:
        assert one["sharded"] == ["", "layers.0", "layers.1"]
        assert one["local"] <= 0.6 * one["total"]
        for name in ("numbers", "averaged"):
            assert close(one[name], plain[name]), name
        assert not close(one["numbers"], one["averaged"])  # the control
        assert one["best"].keys() == {"accuracy"}
    assert told[0]["numbers"] == told[1]["numbers"]
    assert told[0]["kept"] == told[1]["kept"]
    assert [row["seen"] for row in told[0]["rows"]] == [23, 23, 23]
    assert [row["accuracy"] for row in told[0]["rows"]] == [
        pytest.approx(row["accuracy"]) for row in plain["rows"]
    ]


@pytest.mark.long
def test_sharded_runs_go_on(ranks):
    """A killed rank, and a signal to one: the same bits; other ranks, DDP and one process read the files."""
    (whole, *_) = [mine[-1] for mine in ranks.run(PROGRAM, 2)]
    for how, at, who in (("kill", 5, 1), ("term", 7, 1), ("kill", 10, 0)):
        fresh(ranks)
        ended = [one.wait(60) for one in ranks.start(PROGRAM, 2, HOW=how, AT=str(at), WHO=str(who))]
        assert ended[who].rc == (-signal.SIGKILL if how == "kill" else 143), ended[who].err
        (again, *_) = [mine[-1] for mine in ranks.run(PROGRAM, 2)]
        assert again["weights"] == whole["weights"], (how, at)
        assert again["rows"] == whole["rows"]
    for size, parallel in ((3, "fsdp"), (2, "ddp"), (1, "ddp")):
        fresh(ranks)
        for one in ranks.start(PROGRAM, 2, HOW="term", AT="5", PLAIN="1"):
            assert one.wait(60).rc == 143
        (other, *_) = [
            mine[-1] for mine in ranks.run(PROGRAM, size, PARALLEL=json.dumps(parallel), PLAIN="1")
        ]
        assert len(other["rows"]) == 3


@pytest.mark.long
def test_replicas_of_shards(ranks):
    """Two replicas of two shards, blocks by a list: DDP's weights, two files, the same bits after a kill."""
    replicas = json.dumps({"strategy": "fsdp", "replicas": 2, "blocks": ["first", "layers.*"]})
    (plain, *_) = [mine[-1] for mine in ranks.run(PROGRAM, 4, PARALLEL='"ddp"', EMA="1")]
    fresh(ranks)
    whole = [mine[-1] for mine in ranks.run(PROGRAM, 4, PARALLEL=replicas, EMA="1")]
    (folder,) = (ranks.folder / "run" / "checkpoints").glob("*-end")
    assert len(list(folder.glob("shard-*-of-00002.safetensors"))) == 2
    for one in whole:
        assert one["sharded"] == ["", "first", "layers.0", "layers.1"]
        assert one["local"] <= 0.6 * one["total"]
        assert close(one["numbers"], plain["numbers"])
        assert close(one["averaged"], plain["averaged"])
    fresh(ranks)
    settings = {"PARALLEL": replicas, "EMA": "1"}
    for one in ranks.start(PROGRAM, 4, HOW="kill", AT="4", WHO="3", **settings):
        assert one.wait(60).rc != 0
    again = [mine[-1] for mine in ranks.run(PROGRAM, 4, **settings)]
    assert [one["averaged"] for one in again] == [one["averaged"] for one in whole]
    assert [one["weights"] for one in again] == [one["weights"] for one in whole]
    fresh(ranks)
    for one in ranks.start(PROGRAM, 4, HOW="term", AT="2", PLAIN="1", **settings):
        assert one.wait(60).rc == 143
    (other, *_) = [mine[-1] for mine in ranks.run(PROGRAM, 2, PLAIN="1", EMA="1")]
    assert len(other["rows"]) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("parallel", "size"), [("ddp", 3), ("fsdp", 2), ({"strategy": "fsdp", "replicas": 2}, 4)]
)
def test_random_kills(ranks, parallel, size):
    """A rank that is killed at any moment, in the middle of a save too, leaves a run that goes on alike.

    RANK_KILLS says how many kills there are; RANK_KILLS_SEED begins elsewhere.
    """
    settings = {"PARALLEL": json.dumps(parallel), "EVERY": "1", "EMA": "1"}
    whole = [mine[-1] for mine in ranks.run(PROGRAM, size, **settings)]
    draw = random.Random(int(os.environ.get("RANK_KILLS_SEED", "1")))
    wanted, killed, missed, inside = int(os.environ.get("RANK_KILLS", "3")), 0, 0, 0
    turns = whole[0]["turns"]
    while killed < wanted:
        fresh(ranks)
        who, at, delay = draw.randrange(size), draw.randrange(turns), draw.uniform(0, 0.05)
        started = ranks.start(
            PROGRAM, size, HOW="later", AT=str(at), WHO=str(who), DELAY=str(delay), **settings
        )
        ended = [one.wait(60) for one in started]
        assert ended[who].rc in (0, -signal.SIGKILL), ended[who].err
        if ended[who].rc == 0:  # it was faster
            missed += 1
            assert missed < 10 + wanted
            continue
        killed += 1
        inside += any(ranks.folder.glob("run/checkpoints/.tmp-*"))
        again = [mine[-1] for mine in ranks.run(PROGRAM, size, **settings)]
        for one, expected in zip(again, whole, strict=True):
            for name in ("weights", "averaged", "rows", "kept"):
                assert one[name] == expected[name], (name, who, at, delay)
    print(
        f"{parallel} on {size} ranks: {killed} kills, {inside} inside a save, all went on to the same bits"
    )


@pytest.mark.long
def test_meta(ranks):
    """A model on the meta device is made block by block while it is sharded, alike on all ranks."""
    told = [mine[-1] for mine in ranks.run(PROGRAM, 2, META="1")]
    assert told[0]["weights"] == told[1]["weights"]
    assert told[0]["rows"][-1]["train_loss"] < told[0]["rows"][0]["train_loss"]


SCALED = """
from loopwright.errors import LoopwrightError
def made(refused=False, **settings):
    torch.manual_seed(6)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if refused:
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    return lw.Run(model=model, optimizer=optimizer, progress=False, **settings)
for parallel in ("ddp", "fsdp"):
    run = made(precision="fp16", parallel=parallel, clip=0.5)
    weights, data = [], [torch.arange(8.0).reshape(2, 4) / 8] * 4 * SIZE
    for step in run.loop(data, epochs=1):
        loss = run.model(step.batch).float().mean() / 100  # the first scale fits
        if step.index == 1 and RANK == SIZE - 1:
            loss = loss * 1e38 * 1e5
        step.backward(loss)
        step.update()
        weights.append(run.weights(averaged=False)["weight"].tolist())
    scale = run.precision.scaler.get_scale()
    run.close()
    tell(weights=weights, scale=scale, skipped=run.totals["fp16_skipped_updates"])
try:
    made(refused=True, parallel="fsdp")
except LoopwrightError as error:
    tell(slug=error.slug)
try:
    model = nn.Linear(4, 2)
    lw.Run(model=model, optimizer=torch.optim.LBFGS(model.parameters()), parallel="fsdp")
except LoopwrightError as error:
    tell(slug=error.slug)
try:
    made(parallel={"strategy": "fsdp", "replicas": 3})
except LoopwrightError as error:
    tell(slug=error.slug)
"""


def test_fp16_and_what_is_refused(ranks):
    """What overflows on one rank is left out on all, as with DDP; state and closures are refused."""
    for ddp, fsdp, *refused in ranks.run(SCALED, 2):
        assert fsdp == ddp
        assert fsdp["skipped"] == 1
        steps = fsdp["weights"]
        assert [a != b for a, b in itertools.pairwise(steps)] == [False, True, True]
        assert [one["slug"] for one in refused] == [
            "optimizer-has-state",
            "not-sharded",
            "replicas",
        ]


MINIMIZED = """
torch.set_default_dtype(torch.float64)
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(20, 4, generator=draw), torch.randn(20, 1, generator=draw)
class SAM(torch.optim.Optimizer):
    # climbs to the neighbour with the largest loss, takes the gradient there, comes back, steps
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.inner = torch.optim.SGD(self.param_groups, lr=0.1)
    @torch.no_grad()
    def step(self, closure):
        loss = closure()
        held = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in held]).norm()
        moved = [0.2 * p.grad / norm for p in held]
        for p, by in zip(held, moved):
            p.add_(by)
        closure()
        for p, by in zip(held, moved):
            p.sub_(by)
        self.inner.step()
        return loss
def momentum(params): return torch.optim.SGD(params, lr=0.1, momentum=0.9)
def adam(params): return torch.optim.Adam(params, lr=0.1)
for make in (momentum, adam, SAM):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    run = lw.Run(model=model, optimizer=make, progress=False, clip=0.7,
                 parallel=json.loads(os.environ.get("PARALLEL", '"fsdp"')))
    evaluated, losses = 0, []
    for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=12 // SIZE), epochs=3):
        def loss():
            global evaluated
            evaluated += 1
            return (run.model(step.batch[0]) - step.batch[1]).square().mean()
        losses.append(float(step.minimize(loss)))
    weights = torch.cat([w.flatten() for w in run.weights(averaged=False).values()])
    run.close()
    tell(weights=weights.tolist(), evaluated=evaluated, losses=losses)
"""


@pytest.mark.parametrize(("size", "parallel"), [
    (2, "fsdp"), (3, "fsdp"), (4, {"strategy": "fsdp", "replicas": 2}),
])  # fmt: skip
@pytest.mark.long
def test_closures(ranks, size, parallel):
    """Optimizers that evaluate a closure, once or twice, move sharded weights as one process's."""
    (one,) = ranks.run(MINIMIZED, 1)
    for told in ranks.run(MINIMIZED, size, PARALLEL=json.dumps(parallel)):
        for found, expected in zip(told, one, strict=True):
            assert found["evaluated"] == expected["evaluated"]
            for name in ("weights", "losses"):
                pairs = zip(found[name], expected[name], strict=True)
                assert max(abs(a - b) for a, b in pairs) < 1e-12
    assert one[2]["evaluated"] == 2 * one[0]["evaluated"]


def test_every_rank_writes_its_part(ranks):
    """A checkpoint has a file of each rank, no pickle, and whole tensors for whoever reads it."""
    import safetensors
    import torch

    from loopwright.checkpoint import Store, verify

    ranks.run(PROGRAM, 2)
    store = Store(ranks.folder / "run" / "checkpoints")
    for name in store.names():
        folder = ranks.folder / "run" / "checkpoints" / name
        assert sorted(path.name for path in folder.iterdir()) == [
            "manifest.json", "shard-00001-of-00002.safetensors", "shard-00002-of-00002.safetensors",
            "state.json", "tensors.safetensors",
        ]  # fmt: skip
        assert verify(folder) == []
    state, _ = store.load()
    final = safetensors.safe_open(ranks.folder / "run" / "final.safetensors", "pt")
    for key in final.keys():  # noqa: SIM118 - not a dict
        assert torch.equal(final.get_tensor(key), state["models"]["model"][key])
    assert state["optimizers"]["optimizer"]["state"][0]["exp_avg"].shape == (6, 4)
    damaged = folder / "shard-00002-of-00002.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert "sha256 differs" in verify(folder)[0]
    with pytest.warns(UserWarning, match="going on from"):
        Store(ranks.folder / "run" / "checkpoints").load()
    damaged.unlink()
    assert "is missing" in verify(folder)[0]
