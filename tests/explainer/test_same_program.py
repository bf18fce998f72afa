"""Explaining changes nothing: losses, weights, generators, pickles, and what torch is made of."""

from __future__ import annotations

import json

import pytest
import torch

from explainer.recorded import PROGRAMS
from loopwright.explainer.record import Recording
from observe.test_same_program import equal, snapshot
from observe.training import TRAININGS, everything, plain

pytestmark = pytest.mark.filterwarnings("ignore:.*Memory block of unknown size.*")


def recorded(train, **settings):
    """What a training leaves when it is recorded."""
    recording = Recording(**settings)
    recording.start()
    try:
        left = everything(train)
    finally:
        recording.stop()
    assert recording.observer.failure is None, recording.observer.failure
    return left, recording


SLOW = ("transforms", "custom_optimizer", "fused")


@pytest.mark.parametrize(
    "train",
    [
        pytest.param(one, id=one.__name__, marks=pytest.mark.long if one.__name__ in SLOW else ())
        for one in TRAININGS
    ],
)
def test_same_numbers(train):
    """A recorded training, what-ifs and all, has the same losses, weights, generator states and pickles."""
    before = everything(train)
    left, recording = recorded(train)
    assert recording.kept
    assert {name for name in before if not equal(before[name], left[name])} == set()


def test_everything_is_put_back():
    """After a recording with what-ifs, every attribute and every function's code is the one that it was."""
    before = snapshot()
    _, recording = recorded(plain)
    assert snapshot() == before
    asked = [one.name for turn in recording.kept for one in turn.whatifs]
    assert {"half the learning rate", "twice the learning rate", "in eval mode"} <= set(asked)


PRINTS = """
import hashlib, json, random, runpy, sys
import torch
random.seed(0)
path, how = sys.argv[1:3]
sys.argv = [path]
if how == "recorded":
    from loopwright.explainer.record import Recording
    recording = Recording()
    recording.start()
space = runpy.run_path(path, run_name="__main__")
if how == "recorded":
    recording.stop()
    assert recording.observer.failure is None, recording.observer.failure
    assert recording.kept
found = {"torch": hashlib.sha1(torch.get_rng_state().numpy().tobytes()).hexdigest(),
         "python": hashlib.sha1(repr(random.getstate()).encode()).hexdigest()}
for name, value in sorted(space.items()):
    if isinstance(value, torch.nn.Module):
        value = list(value.state_dict().values())
    elif isinstance(value, torch.Tensor):
        value = [value]
    elif isinstance(value, (float, int, str)) and not name.startswith("__"):
        found[name] = repr(value)
        continue
    else:
        continue
    plain = [one for one in value if isinstance(one, torch.Tensor) and one.layout == torch.strided
             and one.numel() and not one.is_complex()]
    found[name] = [hashlib.sha1(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
                   .hexdigest() for one in plain]
print(json.dumps(found))
"""
SHAPES = [
    "amp_bf16_and_scaler",
    "compiled_model",
    "dcgan_tutorial_style",
    "finetune_bn_eval",
    "gan_alternating",
    "kfold",
    "lbfgs",
    "lstm_with_detached_state",
    "maml",
    "manual_sgd",
    "mean_teacher",
    "policy_gradient",
    "sam_two_passes",
    "sparse_embeddings",
    "swa_and_bn_update",
    "vae",
    "wgan_gp",
]


QUICK = ("gan_alternating",)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in SHAPES]
)
def test_same_program(name, run_program, tmp_path):
    """Programs of every shape print the same and leave the same tensors and generators."""
    path = PROGRAMS / "clean" / f"{name}.py"
    alone = run_program(["-c", PRINTS, str(path), "alone"], cwd=tmp_path)
    seen = run_program(["-c", PRINTS, str(path), "recorded"], cwd=tmp_path)
    assert alone.rc == seen.rc == 0, seen.err
    assert seen.out == alone.out
    assert len(alone.out) > 100


OURS = """
import torch
from torch import nn
import loopwright as lw
lw.seed(0)
x = torch.randn(48, 4)
data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
run = lw.Run(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.1), accumulate=2, ema=0.9,
             scheduler=lw.warmup_cosine(0.2), clip=1.0, progress=False)
for step in run.loop(loader, epochs=3):
    data, labels = step.batch
    outputs = run.model(data)
    loss = nn.functional.cross_entropy(outputs, labels)
    step.log(right=(outputs.argmax(1) == labels).float().mean())
    step.backward(loss)
    step.update()
curves = repr({name: (one.x, one.y) for name, one in run.history.series.items() if "second" not in name})
totals = repr(run.totals)
rows = [(row.turn, {k: v for k, v in row.values.items() if "second" not in k}) for row in run.history.epochs]
rows = repr(rows)
averaged = repr(run.ema.state_dict())
"""


def test_same_run(run_program, tmp_path):
    """A run of ours has the same curves, sums, average and weights, although its steps are run again."""
    (tmp_path / "ours.py").write_text(OURS)
    seen, alone = (
        run_program(["-c", PRINTS, "ours.py", how], cwd=tmp_path) for how in ("recorded", "alone")
    )
    assert alone.rc == seen.rc == 0, seen.err + alone.err
    for name, value in json.loads(alone.out).items():
        assert json.loads(seen.out)[name] == value, name
    assert json.loads(alone.out).keys() >= {"curves", "totals", "rows", "model", "averaged"}


def test_the_comparison_sees_a_difference():
    """Control: one more random number is noticed."""

    def other():
        torch.rand(1)
        return plain()

    assert not equal(everything(plain)["torch"], everything(other)["torch"])
