"""Wrapped or sharded by the program itself, and keywords of the wrapper: the numbers of PyTorch's own."""

from __future__ import annotations

COMMON = """
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(48, 6, generator=draw), torch.randint(0, 3, (48,), generator=draw)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Linear(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.last = nn.Linear(8, 3)
    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x).relu()
        self.seen = x.dtype
        return self.last(x)
def adam(params): return torch.optim.AdamW(params, lr=0.01)
def trained(model, **settings):
    run = lw.Run(model=model, optimizer=settings.pop("optimizer", adam), progress=False, **settings)
    for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=6), epochs=3):
        a, b = step.batch
        step.backward(nn.functional.cross_entropy(run.model(a).float(), b))
        step.update()
    return run
def by_hand(model):
    optimizer = adam(model.parameters())
    for turn in 3 * list(range(4)):
        part = torch.arange(RANK, 48, 2)[6 * turn : 6 * turn + 6]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[part]).float(), y[part]).backward()
        optimizer.step()
    return model
def local(model):
    return [getattr(p, "_local_tensor", p).detach().clone() for p in model.parameters()]
def same(one, other):
    return all(map(torch.equal, local(one), local(other)))
def sharded(**more):
    model = Net()
    for block in [*model.layers, model]:
        fully_shard(block, **more)
    return model
def shards_of(model):
    return [name for name, part in model.named_modules() if isinstance(part, FSDPModule)]
lw.Run(model=nn.Linear(1, 1), optimizer=adam, progress=False).close()  # the ranks meet
"""

PROGRAM = (
    COMMON
    + """
from loopwright.errors import LoopwrightError
mine = sharded()
run = trained(mine, optimizer=adam(mine.parameters()), out="run")
for a, b in run.evaluate(DataLoader(TensorDataset(x, y), batch_size=10)):
    run.model(a)
still = all(hasattr(p, "full_tensor") for p in mine.parameters())
run.close()
other = by_hand(sharded())
tell(same=same(mine, other), shards=shards_of(mine), as_before=shards_of(other), still=still,
     taken=run.model is mine, moved=not same(mine, sharded()))
mixed = {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
model = Net()
trained(model, parallel={"strategy": "fsdp", **mixed}).close()
tell(same=same(model, by_hand(sharded(**mixed))), seen=str(model.seen), moved=not same(model, other))
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [torch.ones(4 << 20) for _ in range(8)]  # 16 MiB each, as FSDP2 gathers and frees them
held = resident()
del blocks
tell(freed=held - resident())
half = Net()
fully_shard(half.layers[0])
try:
    trained(half)
except LoopwrightError as error:
    tell(slug=error.slug)

sent = []
# newer versions of torch call what was reduce_scatter_tensor reduce_scatter_single
for name in {"reduce_scatter_tensor", "reduce_scatter_single", "all_reduce", "all_gather"} & set(dir(dist)):
    def count(*args, _name=name, _do=getattr(dist, name), **rest):
        sent.append(_name)
        return _do(*args, **rest)
    setattr(dist, name, count)
model = Net()
optimizer = adam(model.parameters())
halves = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
run = lw.Run(model=model, optimizer=optimizer, scheduler=lw.per_update(halves), accumulate=4,
             progress=False, parallel="fsdp")
turns, rates = [], []
run.on("update", lambda event: rates.append(run.lr()))
for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=3), epochs=2):
    sent.clear()
    a, b = step.batch
    step.backward(nn.functional.cross_entropy(run.model(a), b))
    step.update()
    turns.append([step.updates, list(sent)])
run.close()
tell(turns=turns, rates=rates)

mine = DistributedDataParallel(Net())
run = trained(mine, optimizer=adam(mine.parameters()))
tell(same=same(mine, by_hand(DistributedDataParallel(Net()))), taken=run.model is mine,
     wrapped=sum(isinstance(part, DistributedDataParallel) for part in run.model.modules()),
     moved=not same(mine, Net()))
"""
)


def test_what_the_program_has_wrapped(ranks):
    """A model in DDP, or sharded, stays as it is and trains with PyTorch's own bits.

    Keywords reach fully_shard. Gradients of shards travel once in a window, and what FSDP2 frees goes back to
    the system.
    """
    for own, mixed, memory, partly, counted, ddp in ranks.run(PROGRAM, 2):
        assert ddp == {"same": True, "taken": True, "wrapped": 1, "moved": True}
        assert own.pop("shards") == own.pop("as_before") == ["", "layers.0", "layers.1"]
        assert own == {"same": True, "still": True, "taken": True, "moved": True}
        assert mixed == {"same": True, "seen": "torch.bfloat16", "moved": True}
        assert memory["freed"] > 64 << 20
        assert partly == {"slug": "partly-sharded"}
        assert counted["rates"] == [0.01 * 0.5**update for update in (1, 2, 3, 4)]
        scattered = [sum("scatter" in name for name in sent) for _, sent in counted["turns"]]
        assert scattered == [0, 0, 0, 3] * 4
        for (closes, sent), number in zip(counted["turns"], range(16), strict=True):
            if not closes and number:  # once a run, the ranks agree on a unit for their weights
                assert "all_reduce" not in sent
    for name in ("shard-00001-of-00002", "shard-00002-of-00002"):
        assert list((ranks.folder / "run" / "checkpoints").glob(f"*/{name}.safetensors"))


ALONE = (
    COMMON.rpartition("lw.Run(")[0]
    + """
dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
def run_of(model, out, stops=False):
    run = lw.Run(out, model=model, optimizer=adam, clip=1.0, ema=0.9, progress=False,
                 checkpoint=lw.Checkpoint(every_steps=1))
    with run:
        for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=6), epochs=2):
            a, b = step.batch
            step.backward(nn.functional.cross_entropy(run.model(a), b))
            step.update()
            if stops and step.index == 11:
                raise KeyboardInterrupt
        return run.weights(averaged=False)
def equal(one, other):
    return [*one] == [*other] and all(map(torch.equal, one.values(), other.values()))
lw.seed(1)
plain = run_of(Net(), None)
lw.seed(1)
try:
    run_of(sharded(), "run", stops=True)
except KeyboardInterrupt:
    pass
lw.seed(2)
again = run_of(sharded(), "run")
whole = run_of(Net(), "run")  # without FSDP2
tell(same=equal(plain, again), whole=equal(plain, whole), first=equal(plain, Net().state_dict()))
"""
)


def test_sharded_by_the_program_in_one_process(ranks):
    """A mesh of one process trains and goes on with the plain model's bits, and any process reads the run."""
    ((told,),) = ranks.run(ALONE, 1)
    assert told == {"same": True, "whole": True, "first": False}
