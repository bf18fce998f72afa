"""Kill a program anywhere; the same command again ends with the bits of a run that nobody killed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from small import equal, loader, make, network, train, turn, weights
from torch import nn

import loopwright as lw
from loopwright.errors import UsageError
from loopwright.train.state.policy import allows

HEAD = """
import os, random, sys
sys.path.insert(0, {tests!r})
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
import loopwright as lw
from small import dataset, loader, make, turn, weights

def die_at(*keys):
    "SIGKILL at this place, the first time that a process comes here."
    key = "-".join(map(str, keys))
    if key == os.environ.get("DIE") and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), 9)

def say(*values):
    for value in values:
        print(value.tolist() if isinstance(value, torch.Tensor) else value)
    print(torch.rand(2).tolist(), random.random(), np.random.rand())
"""

# Dropout, BatchNorm, EMA, a scheduler per update and one per epoch, two optimizers, accumulation,
# a data set that draws from all generators, workers, values of the user's.
EVERYTHING = """
WORKERS = int(os.environ.get("WORKERS", "0"))

class Noisy(Dataset):
    def __len__(self):
        return 23
    def __getitem__(self, i):
        x = torch.randn(3) + random.random() + float(np.random.rand()) + i / 23
        return x, x.sum(0, keepdim=True)

class Counter:
    def __init__(self): self.n = 0
    def state_dict(self): return {"n": self.n}
    def load_state_dict(self, state): self.n = state["n"]

lw.seed(0)
body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
head = nn.Linear(8, 1)
optimizers = {
    "body": torch.optim.AdamW(body.parameters(), lr=0.01),
    "head": torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9),
}
run = lw.Run(
    "run", model={"body": body, "head": head}, optimizer=optimizers, progress=False,
    scheduler={
        "body": lw.warmup_cosine(0.2),
        "head": lw.per_epoch(torch.optim.lr_scheduler.StepLR(optimizers["head"], 1, 0.5)),
    },
    ema=lw.EMA(0.9), accumulate=3, clip=1.0, checkpoint=lw.Checkpoint(every_steps=2),
)
counter = Counter()
run.track("counter", counter)
first = run.keep("first", random.random())
batches = DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=WORKERS)
for step in run.loop(batches, epochs=3):
    x, y = step.batch
    loss = nn.functional.mse_loss(run.model["head"](run.model["body"](x)), y)
    die_at("forward", step.index)
    step.backward(loss)
    die_at("backward", step.index)
    step.update()
    counter.n += 1
    die_at("update", step.index)
    if step.ends_epoch:
        mean = lw.Mean()
        for x, y in run.evaluate(loader()):
            mean.update(nn.functional.mse_loss(run.model["head"](run.model["body"](x)), y))
            die_at("evaluate", step.index)
        step.log(valid_loss=mean)
        run.keep_best("valid_loss", mode="min")
say(*weights(run), *body.buffers(), counter.n, first, run.best)
say(*(w for _, w in sorted(run.weights(averaged=True).items())))
print([row.values for row in run.history.epochs], run.history.series["loss"].y)
"""

# Three loops in one program: a warm-up, the training, a fine-tuning by name; state between them.
LOOPS = """
lw.seed(0)
run = make("run", model=nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)),
           checkpoint=lw.Checkpoint(every_steps=1))
for name, epochs in (("warm up", 1), (None, 2), ("fine", 1)):
    between = torch.rand(1)
    for step in run.loop(loader(shuffle=True), epochs=epochs, name=name):
        turn(run, step)
        die_at(name, step.index)
        if name == "fine" and step.index == 3:
            break
    say(between, *weights(run))
print({k: v for k, v in sorted(run.totals.items())}, run.history.series["loss"].y)
"""

# Several runs in one process: cross-validation, each fold from the weights that the fold before left
# in the generators.
FOLDS = """
lw.seed(0)
for fold in range(3):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    with make(f"runs/{fold}", model=model, checkpoint=lw.Checkpoint(every_steps=2)) as run:
        for step in run.loop(loader(shuffle=True), epochs=2):
            turn(run, step)
            die_at(fold, step.index)
        say(*weights(run))
"""


@pytest.fixture(scope="module")
def bench(program_server, tmp_path_factory):
    """``bench(text, die, workers)``: what a program prints when it is killed once and run again."""
    kept: dict[tuple[str, int], str] = {}

    def run(folder, workers, die="", expected=0):
        env = {"DIE": die, "WORKERS": str(workers), "OMP_NUM_THREADS": "1"}
        program = program_server.start([folder / "train.py"], cwd=folder, env=env)
        rc, out, err = program.wait()
        assert rc == expected, err
        return out

    def write(text):
        folder = tmp_path_factory.mktemp("program")
        (folder / "train.py").write_text(HEAD.format(tests=str(Path(__file__).parent)) + text)
        return folder

    def whole(text, workers=0):
        if (text, workers) not in kept:
            kept[text, workers] = run(write(text), workers)
        return kept[text, workers]

    def killed(text, die, workers=0):
        folder = write(text)
        run(folder, workers, die, expected=-9)
        return run(folder, workers)

    def again(text, workers=0):
        folder = write(text)
        run(folder, workers)
        return run(folder, workers)

    run.whole, run.killed, run.again = whole, killed, again
    return run


# Eight turns an epoch, windows of 3, 3 and 2.
PLACES = [
    "forward-0",
    "update-0",
    "backward-4",
    "update-6",
    "update-7",
    "forward-8",
    "evaluate-15",
    "update-17",
    "update-22",
    "update-23",
]


@pytest.mark.parametrize("die", PLACES)
def test_killed(bench, die):
    """Killed at a turn's start, in a window, at an epoch's boundary, in validation: the same bits."""
    assert bench.killed(EVERYTHING, die) == bench.whole(EVERYTHING)


@pytest.mark.parametrize(
    "die",
    [
        "forward-8",
        *(pytest.param(one, marks=pytest.mark.long) for one in ["update-3", "update-22"]),
    ],
)
def test_killed_with_workers(bench, die):
    """With two workers, which draw from generators of their own, the bits are the same too."""
    assert bench.killed(EVERYTHING, die, workers=2) == bench.whole(EVERYTHING, workers=2)


def test_finished_again(bench):
    """A finished program run again prints the same."""
    assert bench.again(EVERYTHING) == bench.whole(EVERYTHING)


@pytest.mark.parametrize(
    "die",
    ["warm up-5", "None-0", "fine-1",
     *(pytest.param(one, marks=pytest.mark.long) for one in ["warm up-3", "None-7", "None-11"])],
)  # fmt: skip
def test_several_loops(bench, die):
    """In a program with several loops the one that was killed goes on; earlier ones yield nothing."""
    assert bench.killed(LOOPS, die) == bench.whole(LOOPS)


def test_several_loops_again(bench):
    """A finished program with several loops yields no turn, and prints the same after each."""
    assert bench.again(LOOPS) == bench.whole(LOOPS)


@pytest.mark.parametrize(
    "die", ["1-0", "2-7", *(pytest.param(one, marks=pytest.mark.long) for one in ["0-4", "1-11"])]
)
def test_several_runs(bench, die):
    """In a program with several runs the finished ones restore what they left, generators included."""
    assert bench.killed(FOLDS, die) == bench.whole(FOLDS)


def test_the_control(bench):
    """The control: another seed gives other bits, so equal ones mean something."""
    other = EVERYTHING.replace("lw.seed(0)", "lw.seed(1)")
    assert bench.whole(other) != bench.whole(EVERYTHING)


# -- what is kept, within one process ---------------------------------------------------------------


def test_keep(tmp_path):
    """run.keep returns the value that was saved, of any kind that a checkpoint holds."""
    values = {"seed": 3, "order": [2, 0, 1], "table": torch.arange(3), "name": "x", "none": None}
    run = make(tmp_path / "run")
    for name, value in values.items():
        assert run.keep(name, value) is value
    train(run)
    run.close()
    again = make(tmp_path / "run")
    got = {name: again.keep(name, "other") for name in values}
    assert torch.equal(got.pop("table"), values.pop("table"))
    assert got == values


def test_keep_changes(tmp_path):
    """A value that is kept again is saved from then on."""
    run = make(tmp_path / "run")
    run.keep("n", 0)
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        run.keep("n", step.index)
    run.close()
    assert make(tmp_path / "run").keep("n", -1) == 5


class Tracked:
    """Anything with a state."""

    def __init__(self):
        self.state = {"n": 0}

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state):
        self.state = state


def test_track(tmp_path):
    """A tracked object is restored when the loop begins."""
    one, two = Tracked(), Tracked()
    run = make(tmp_path / "run")
    run.track("mine", one)
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        one.state["n"] += 1
    run.close()
    again = make(tmp_path / "run")
    again.track("mine", two)
    assert two.state["n"] == 0
    train(again, epochs=1)
    assert two.state["n"] == 6


def test_track_needs_both_methods():
    """What has no state_dict and load_state_dict cannot be tracked; keep is named for plain values."""
    with pytest.raises(UsageError) as caught:
        make().track("x", [1])
    assert caught.value.slug == "not-trackable"
    assert "run.keep" in caught.value.hint


def test_what_cannot_be_saved(tmp_path):
    """A tracked state that no checkpoint can hold is refused before the first turn, with its path."""

    class Bad(Tracked):
        def state_dict(self):
            return {"deep": [object()]}

    run = make(tmp_path / "run")
    run.track("bad", Bad())
    with pytest.raises(UsageError, match="object") as caught:
        train(run)
    assert "state['tracked']['bad']['deep'][0]" in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert run.active is None


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own
def test_stateful_loader(tmp_path):
    """A StatefulDataLoader is resumed inside an epoch by its own state."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def data():
        return stateful.StatefulDataLoader(loader().dataset, batch_size=4, shuffle=True)

    lw.seed(0)
    whole = make()
    train(whole, data(), epochs=2)
    lw.seed(0)
    with (
        pytest.raises(KeyError),
        make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=1)) as run,
    ):
        for step in run.loop(data(), epochs=2):
            turn(run, step)
            if step.index == 3:
                raise KeyError
    lw.seed(99)
    again = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=1))
    assert len(train(again, data(), epochs=2)) == 9
    assert equal(weights(again), weights(whole))


def test_final_weights(tmp_path):
    """``final.safetensors`` holds the weights at the end, ``raw`` the ones that are not averaged."""
    run = make(tmp_path / "run", ema=lw.EMA(0.5))
    train(run)
    run.close()
    raw = load_file(tmp_path / "run" / "raw.safetensors")
    assert torch.equal(raw["weight"], run.model.weight)
    final = load_file(tmp_path / "run" / "final.safetensors")
    with run.ema.swapped():
        assert torch.equal(final["weight"], run.model.weight)
    assert not torch.equal(raw["weight"], final["weight"])


def test_best_weights_after_resume(tmp_path):
    """load_best gives the best epoch's weights, also when they were kept by a process before."""
    scores = [1.0, 5.0, 2.0]
    run = make(tmp_path / "run")
    best = []
    for step in run.loop(loader(), epochs=3):
        turn(run, step)
        if step.ends_epoch:
            step.log(score=scores[step.epoch])
            if run.keep_best("score"):
                best = weights(run)
    run.close()
    again = make(tmp_path / "run", model=network())
    assert train(again, epochs=3) == []
    assert not equal(weights(again), best)
    assert again.load_best()
    assert equal(weights(again), best)
    assert again.best["score"]["value"] == 5.0
    assert (again.best["score"]["epoch"], again.best["score"]["turn"]) == (2, 12)


def test_half_filled_window(tmp_path):
    """Gradients that wait in a window travel with the checkpoint."""
    policy = lw.Checkpoint(every_steps=1)
    whole = make(accumulate=4)
    train(whole, epochs=1)
    with pytest.raises(KeyError), make(tmp_path / "run", accumulate=4, checkpoint=policy) as run:
        for step in run.loop(loader(), epochs=1):
            if step.index == 2:
                raise KeyError
            turn(run, step)
    again = make(tmp_path / "run", accumulate=4, checkpoint=policy)
    assert [step.index for step in train(again, epochs=1)] == [2, 3, 4, 5]
    assert equal(weights(whole), weights(again))


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.Rprop])
def test_optimizer_state(tmp_path, optimizer):
    """An optimizer's own state is restored, bit for bit."""

    def build(out):
        return make(
            out,
            optimizer=lambda params: optimizer(params, lr=0.01),
            checkpoint=lw.Checkpoint(every_steps=1),
        )

    whole = build(None)
    train(whole, epochs=2)
    with pytest.raises(KeyError), build(tmp_path / "run") as run:
        for step in run.loop(loader(), epochs=2):
            if step.index == 7:
                raise KeyError
            turn(run, step)
    again = build(tmp_path / "run")
    train(again, epochs=2)
    assert equal(weights(whole), weights(again))


def test_checkpoint_policy(tmp_path):
    """Checkpoints come every so many turns, and as many of the newest stay as was said."""
    run = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=2, keep=3))
    train(run, epochs=2)
    run.close()
    names = sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir() if p.is_dir())
    assert names == ["loop-0-end", "loop-0-turn-00000008", "loop-0-turn-00000010"]


def test_checkpoint_every_minutes(tmp_path, monkeypatch):
    """A checkpoint comes at the first turn after so much time, and the time counts from the one before."""
    clock = [100.0]
    monkeypatch.setattr(
        "loopwright.train.lifecycle.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    run = make(
        tmp_path / "run", checkpoint=lw.Checkpoint(every_minutes=2, every_epochs=None, keep=9)
    )
    for step in run.loop(loader(), epochs=2):
        turn(run, step)
        clock[0] += 50.0
    run.close()
    names = sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir() if p.is_dir())
    turns = [int(name.rpartition("-")[2]) for name in names if not name.endswith("-end")]
    assert turns == [0, 3, 6, 9]


@pytest.mark.parametrize(
    "settings",
    [
        {"every_steps": 0},
        {"every_epochs": True},
        {"keep": 1},
        {"every_minutes": 0},
        {"most": 0},
        {"most": 2},
        {"every_steps": 1.5},
    ],
)
def test_policy_out_of_range(settings):
    """A policy that cannot be is refused when it is made."""
    with pytest.raises(UsageError) as caught:
        lw.Checkpoint(**settings)
    assert caught.value.slug == "checkpoint-policy"


@pytest.mark.parametrize(
    ("policy", "cost", "seconds", "allowed"),
    [
        ({}, 0.015, 0.9, False),  # too soon, though it would cost less than 5 %
        ({}, 0.015, 1.0, True),
        ({}, 0.06, 1.0, False),
        ({}, 30.0, 600.0, True),
        ({"most": 1.0}, 0.015, 0.02, True),
        ({"most": 1.0}, 0.015, 0.01, False),
    ],
)
def test_short_epochs_are_not_slowed_down(policy, cost, seconds, allowed):
    """An epoch's end is passed over a moment after the last checkpoint, or where saving takes too much."""
    assert allows(lw.Checkpoint(**policy), cost, seconds) is allowed


def test_lstm(tmp_path):
    """A model whose parameters share memory (an LSTM's) and one with tied weights resume."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(3, 4, bias=False)
            self.lstm = nn.LSTM(4, 4, batch_first=True)
            self.out = nn.Linear(4, 3, bias=False)
            self.out.weight = nn.Parameter(self.embed.weight.t().contiguous())
            self.again = self.out

        def forward(self, x):
            return self.again(self.lstm(self.embed(x)[:, None])[0][:, 0]).sum(1, keepdim=True)

    def build(out):
        torch.manual_seed(0)
        return make(out, model=Tied(), checkpoint=lw.Checkpoint(every_steps=1))

    whole = build(None)
    train(whole, epochs=1)
    with pytest.raises(KeyError), build(tmp_path / "run") as run:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            if step.index == 2:
                raise KeyError
    again = build(tmp_path / "run")
    train(again, epochs=1)
    assert equal(weights(whole), weights(again))


# Two loops over one loader with persistent workers: the second goes on with the workers that the first
# one left inside an epoch.
PERSISTENT = """
class Noisy(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, i):
        x = torch.full((3,), i / 24) + torch.rand(3)
        return x, x.sum(0, keepdim=True)

lw.seed(0)
batches = DataLoader(Noisy(), 4, shuffle=True, num_workers=2, persistent_workers=True)
run = make("run", checkpoint=lw.Checkpoint(every_steps=2))
for step in run.loop(batches, steps=8):
    turn(run, step)
    die_at("first", step.index)
die_at("between")
for step in run.loop(batches, steps=8, name="second"):
    turn(run, step)
    die_at("second", step.index)
    if step.index == 5:
        break
say(*weights(run))
"""


@pytest.mark.parametrize(
    "die",
    ["between", "second-4",
     *(pytest.param(one, marks=pytest.mark.long) for one in ["first-7", "second-0"])],
)  # fmt: skip
def test_persistent_workers_between_loops(bench, die):
    """Workers that an ended loop left are the next loop's, also in another process."""
    assert bench.killed(PERSISTENT, die) == bench.whole(PERSISTENT)


CONCLUDED = """
import loopwright.train.fit as fit
real = fit._conclude
def conclude(*args):
    die_at("before")
    real(*args)
    die_at("after")
fit._conclude = conclude
lw.seed(0)
model = nn.Linear(3, 1)
run = lw.fit(model, torch.optim.SGD(model.parameters(), lr=0.05), nn.MSELoss(), loader(shuffle=True),
             loader(), test_loader=loader(samples=12), epochs=2, out="run", progress=False,
             keep_best=("valid_loss", "min"))
say(*weights(run))
print({k: v for k, v in sorted(run.totals.items())})
"""


@pytest.mark.parametrize("die", ["before", "after"])
def test_killed_before_the_test(bench, die):
    """A run that was killed between its last turn and its test is tested by the next process, once."""
    assert bench.killed(CONCLUDED, die) == bench.whole(CONCLUDED)


ENDS = """
import loopwright.train.lifecycle as lifecycle
real = lifecycle.Lifecycle._finish
def finish(self, loop, outcome):
    die_at("finish")
    real(self, loop, outcome)
lifecycle.Lifecycle._finish = finish
lw.seed(0)
run = make("run")
for step in run.loop(loader(shuffle=True), epochs=2):
    turn(run, step)
run.close()
print(run.outcome.kind, run.outcome.reason, sorted(os.listdir("run")))
"""


def test_killed_before_the_outcome(bench):
    """A run that was killed after its last checkpoint is finished by the next process."""
    assert bench.killed(ENDS, "finish") == bench.whole(ENDS)
    assert bench.whole(ENDS).startswith("finished 2 epochs")


def test_the_best_checkpoint_stays(tmp_path):
    """The checkpoint of the turn with the best value is kept, and let go once there is a better one."""
    scores = [1.0, 5.0, 2.0, 3.0, 9.0, 4.0, 3.0, 2.0]

    def go(epochs):
        run = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=6))
        for step in run.loop(loader(), epochs=epochs):
            turn(run, step)
            if step.ends_epoch:
                step.log(score=scores[step.epoch])
                run.keep_best("score")
        run.close()
        return [p.name for p in sorted((tmp_path / "run/checkpoints").iterdir()) if p.is_dir()]

    assert "loop-0-turn-00000012" in go(4)
    later = go(8)
    assert "loop-0-turn-00000030" in later
    assert "loop-0-turn-00000012" not in later


def test_weights_that_are_not_finite_do_not_push_out_finite_ones(tmp_path):
    """Retention keeps the newest two checkpoints whose weights are finite."""
    run = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_steps=1))
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        if step.index == 2:
            run.model.weight.data[0, 0] = float("nan")
            step_on = run.model.weight.data.clone()
        if step.index >= 2:
            run.model.weight.data.copy_(step_on)
            break
    for name in ("a", "b", "c"):  # whatever saves them
        run.files._store.save(
            {"w": run.model.weight}, name=name, before=lambda tensors: {"finite": False}
        )
    names = set(run.files._store.names())
    assert {"loop-0-turn-00000001", "loop-0-turn-00000002"} <= names
    assert run.files._store.meta("c")["finite"] is False
