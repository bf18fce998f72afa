"""Several optimizers, closures, fp16, schedules and mistakes, on two ranks."""

from __future__ import annotations

PROGRAM = """
torch.set_default_dtype(torch.float64)
draw = torch.Generator().manual_seed(3)
x, y = torch.randn(20, 4, generator=draw), torch.randn(20, 1, generator=draw)
def linear(seed, width=1):
    torch.manual_seed(seed)
    return nn.Linear(4, width)
def batches(size):
    return DataLoader(TensorDataset(x, y), batch_size=size)
def flat(*models):
    return torch.cat([p.detach().flatten() for m in models for p in m.parameters()]).tolist()
EACH = 6 // SIZE  # the joined batch has 6 samples: the last one has 2

# two models and two optimizers, one of them in turn; ranks begin with weights of their own
one, two = linear(1 + RANK), linear(2 + RANK)
run = lw.Run(model={"one": one, "two": two}, progress=False, accumulate=1, optimizer={
    "one": torch.optim.SGD(one.parameters(), lr=0.1), "two": torch.optim.Adam(two.parameters(), lr=0.1)})
for step in run.loop(batches(EACH), epochs=3):
    a, b = step.batch
    name = ("one", "two")[step.index % 2]
    with step.only(name):
        loss = (run.model["one"](a) + run.model["two"](a) - b).square().mean()
        step.backward(loss)
        step.update()
run.close()
tell(case="two", weights=flat(one, two))

# LBFGS compares losses: all ranks have to decide alike
model = linear(3)
run = lw.Run(model=model, progress=False, optimizer=torch.optim.LBFGS(model.parameters(), lr=1.0,
             max_iter=6, line_search_fn="strong_wolfe"))
for step in run.loop(batches(EACH), epochs=1):
    a, b = step.batch
    step.minimize(lambda: (run.model(a) - b).square().mean())
run.close()
tell(case="lbfgs", weights=flat(model))

# the scheduler counts updates, whatever the world's size
rates = []
model = linear(4)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), progress=False,
             scheduler=lw.warmup_cosine(warmup=2), accumulate=2)
run.on("update", lambda event: rates.append(run.lr()))
for step in run.loop(batches(EACH), epochs=2):
    step.backward(0 * run.model(step.batch[0]).mean())
    step.update()
run.close()
tell(case="rates", rates=rates)

# fp16: what overflows on one rank is left out on all
torch.set_default_dtype(torch.float32)
torch.manual_seed(6)
model = nn.Linear(4, 1)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), precision="fp16",
             progress=False)
moved = []
for step in run.loop([torch.ones(2, 4)] * 4 * SIZE, epochs=1):
    before = model.weight.detach().clone()
    loss = run.model(step.batch).float().mean() / 100  # the first scale fits
    if step.index == 1 and RANK == SIZE - 1:
        loss = loss * 1e38 * 1e5
    step.backward(loss)
    step.update()
    moved.append(not torch.equal(before, model.weight))
scale = run.precision.scaler.get_scale()
run.close()
tell(case="fp16", moved=moved, scale=scale, skipped=run.totals["fp16_skipped_updates"])
"""

MISTAKES = """
from loopwright.errors import LoopwrightError
model = nn.Linear(2, 1)
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
try:
    for step in run.loop([torch.ones(2, 2)] * 4, epochs=1):
        step.backward(model(step.batch).mean())  # past the wrapper
except LoopwrightError as error:
    tell(slug=error.slug, where=error.where)
model.weight.data.fill_(RANK)
import copy, io
copied = copy.deepcopy(model)
torch.save(model, io.BytesIO())
try:
    lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), parallel="zero3")
except LoopwrightError as error:
    tell(slug=error.slug, where=error.where)
"""


def test_updates(ranks):
    """Two optimizers in turn, LBFGS and schedules are what they are on one rank; fp16 skips together."""
    (one,) = ranks.run(PROGRAM, 1)
    alone = {told["case"]: told for told in one}
    for mine in ranks.run(PROGRAM, 2) + ranks.run(PROGRAM, 3):
        told = {case["case"]: case for case in mine}
        for case in ("two", "lbfgs"):
            pairs = zip(told[case]["weights"], alone[case]["weights"], strict=True)
            assert max(abs(a - b) for a, b in pairs) < 1e-12, case
        assert told["rates"]["rates"] == alone["rates"]["rates"]
        assert told["fp16"]["moved"] == [True, False, True, True]
        assert told["fp16"]["scale"] == alone["fp16"]["scale"]
        assert told["fp16"]["skipped"] == 1


def test_mistakes(ranks):
    """The bare model in a training turn, and an unknown strategy, are errors on every rank."""
    for rank in ranks.run(MISTAKES, 2):
        assert [one["slug"] for one in rank] == ["ddp-bypassed", "unknown-parallel"]
        assert rank[0]["where"].startswith("program.py:")
