"""fp16 on a CPU with a gradient scaler: the same updates as the hand-written scaler loop, bit for bit."""

from __future__ import annotations

import pytest
import torch
from material import equal, quiet_run, worst
from torch import nn
from torch.optim.lr_scheduler import StepLR

import loopwright as lw
from loopwright.errors import NonFiniteError
from loopwright.train.update.precision import SKIPS_IN_A_ROW


def batches(count=12, scale=30.0):
    """Return batches whose errors are large enough that the first scales overflow."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 8, generator=generator), scale * torch.randn(6, 2, generator=generator))
        for _ in range(count)
    ]


def net():
    """Return a small regression model with known weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2))


def by_hand(model, optimizer, data, *, clip=None, schedule=None, each=None):
    """Train with autocast and a GradScaler as torch's documentation does; returns what was skipped."""
    scaler = torch.amp.GradScaler("cpu")
    skipped = []
    for inputs, target in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(inputs), target)
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        skipped.append(scaler.get_scale() < before)
        if not skipped[-1]:
            if schedule is not None:
                schedule.step()
            if each is not None:
                each(model)
    return skipped


def ours(model, optimizer, data, **settings):
    """Train with a run in fp16; returns the run and what ``step.update()`` answered."""
    run = quiet_run(model=model, optimizer=optimizer, precision="fp16", **settings)
    stepped = []
    for step in run.loop(data, epochs=1):
        inputs, target = step.batch
        step.backward(nn.functional.mse_loss(run.model(inputs), target))
        stepped.append(step.update())
    return run, stepped


def sgd(model):
    """Return SGD with momentum over a model."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_fp16_is_the_scaler_loop(clip):
    """Scaled, unscaled, clipped, stepped or skipped: the bits of the loop in torch's documentation."""
    hand, model = net(), net()
    skipped = by_hand(hand, sgd(hand), batches(), clip=clip)
    run, stepped = ours(model, sgd(model), batches(), clip=clip)
    assert 0 < sum(skipped) < len(skipped)
    assert stepped == [not skip for skip in skipped]
    assert run.totals["fp16_skipped_updates"] == sum(skipped)
    assert run.totals["updates"] == len(skipped) - sum(skipped)
    assert equal(model, hand)


def test_another_scale_gives_other_skips():
    """The comparison can fail: data that never overflow skip nothing and end elsewhere."""
    hand, model = net(), net()
    by_hand(hand, sgd(hand), batches())
    run, stepped = ours(model, sgd(model), batches(scale=0.1))
    assert all(stepped)
    assert "fp16_skipped_updates" not in run.totals
    assert not equal(model, hand)


def test_row_05_scheduler_not_stepped_on_a_skipped_update():
    """A schedule per update counts the updates that happened, as the hand-written loop's does."""
    hand, model = net(), net()
    optimizer = sgd(hand)
    skipped = by_hand(hand, optimizer, batches(), schedule=StepLR(optimizer, 2, gamma=0.5))
    other = sgd(model)
    run, _ = ours(model, other, batches(), scheduler=lw.per_update(StepLR(other, 2, gamma=0.5)))
    done = len(skipped) - sum(skipped)
    assert (
        other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.01 * 0.5 ** (done // 2)
    )
    assert 0.5 ** (len(skipped) // 2) != 0.5 ** (done // 2), "a step for each turn would be seen"
    assert equal(model, hand)
    assert run.history.series["lr"].y[: 1 + skipped.index(False)] == [0.01] * (
        1 + skipped.index(False)
    )


def test_row_08_average_not_moved_by_a_skipped_update():
    """The EMA takes the weights after each update that happened, and after no other."""
    weights = []
    hand, model = net(), net()
    by_hand(
        hand, sgd(hand), batches(),
        each=lambda m: weights.append([p.detach().double().clone() for p in m.parameters()]),
    )  # fmt: skip
    expected = weights[0]
    for now in weights[1:]:
        expected = [0.5 * e + 0.5 * n for e, n in zip(expected, now, strict=True)]
    run, _ = ours(model, sgd(model), batches(), ema=0.5)
    with run.averaged():
        found = [p.detach().double().clone() for p in model.parameters()]
    assert worst(found, expected) < 1e-6
    assert run.ema.averages == len(weights) < len(batches())


def test_accumulated_windows_keep_the_magnitude_of_fp16_gradients():
    """Weights of thousands of tokens do not overflow what fits: they are taken relative to a power of two."""

    def scales(weight):
        model = net()
        run = quiet_run(model=model, optimizer=sgd(model), precision="fp16", accumulate=2)
        answers = []
        for step in run.loop(batches(8, scale=0.1), epochs=1):
            inputs, target = step.batch
            step.backward(nn.functional.mse_loss(run.model(inputs), target), weight=weight)
            answers.append(step.update())
        return answers, model

    small, first = scales(1)
    for large in (8192, torch.tensor(8192)):
        answers, second = scales(large)
        assert answers == small == [False, True] * 4
        assert equal(first, second)


def test_an_endless_row_of_skips_is_an_error():
    """Gradients that are never finite end the run after a bounded number of skips."""
    model = net()
    data = [(inputs, target * float("nan")) for inputs, target in batches(SKIPS_IN_A_ROW + 5)]
    run = quiet_run(model=model, optimizer=sgd(model), precision="fp16")
    before = [p.detach().clone() for p in model.parameters()]

    def train():
        for step in run.loop(data, epochs=1):
            inputs, target = step.batch
            step.backward(nn.functional.mse_loss(run.model(inputs), target))
            step.update()

    with pytest.raises(NonFiniteError, match=f"{SKIPS_IN_A_ROW} updates in a row") as caught:
        train()
    assert caught.value.slug == "fp16-never-finite"
    assert worst(before, list(model.parameters())) == 0.0


def test_finished_and_thrown_away_gradients_leave_the_scaler_ready():
    """``gradients()`` followed by ``skip()`` does not spoil the next update."""
    model, hand = net(), net()
    data = batches(6, scale=0.1)
    run = quiet_run(model=model, optimizer=sgd(model), precision="fp16")
    for step in run.loop(data, epochs=1):
        inputs, target = step.batch
        step.backward(nn.functional.mse_loss(run.model(inputs), target))
        if step.index == 2:
            step.gradients()
            step.skip()
            continue
        step.update()
    by_hand(hand, sgd(hand), data[:2] + data[3:])
    assert equal(model, hand)


class Elementwise(nn.Module):
    """Products only: autocast leaves them in float32, so scaling by a power of two is exact."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 8))

    def forward(self, x):
        return (x * self.weight).sum(1)


@pytest.mark.parametrize("clip", [0.1, "value:0.01"])
def test_row_06_clip_before_unscale(clip):
    """With a scale of 2**16 the norm after clipping is in range and the update is that of fp32."""
    norms, models = {}, {}
    for precision in ("fp32", "fp16"):
        model = models[precision] = Elementwise()
        run = quiet_run(model=model, optimizer=sgd(model), precision=precision, clip=clip)
        seen = norms[precision] = []
        run.optimizer.register_step_pre_hook(
            lambda optimizer, *_, model=model, seen=seen: seen.append(
                model.weight.grad.norm().item()
            )
        )
        for step in run.loop(batches(5, scale=1.0), epochs=1):
            inputs, target = step.batch
            step.backward(nn.functional.mse_loss(run.model(inputs), target[:, 0]))
            step.update()
    assert equal(models["fp16"], models["fp32"])
    assert norms["fp16"] == norms["fp32"]
    assert max(norms["fp16"]) <= 0.1 * (1 + 1e-6)


def test_row_06_clipping_scaled_gradients_would_be_seen():
    """The comparison can fail: gradients clipped before they are unscaled give nearly no update."""
    hand, model = Elementwise(), Elementwise()
    scaler, optimizer = torch.amp.GradScaler("cpu"), sgd(hand)
    run = quiet_run(model=model, optimizer=sgd(model), precision="fp16", clip=0.1)
    for step in run.loop(batches(5, scale=1.0), epochs=1):
        inputs, target = step.batch
        step.backward(nn.functional.mse_loss(run.model(inputs), target[:, 0]))
        step.update()
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(hand(inputs), target[:, 0])).backward()
        torch.nn.utils.clip_grad_norm_(hand.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
    moved = worst([Elementwise().weight.detach()], [hand.weight.detach()])
    assert moved < 1e-5 < worst([Elementwise().weight.detach()], [model.weight.detach()])


def test_two_optimizers_whose_gradients_wait_while_the_scale_falls():
    """A skip of one optimizer does not change how the other's waiting gradients are unscaled."""
    first, second = Elementwise(), Elementwise()
    alone = Elementwise()
    run = quiet_run(
        model={"a": first, "b": second},
        optimizer={"a": sgd(first), "b": sgd(second)},
        precision="fp16",
    )
    data = batches(4, scale=1.0)
    for step in run.loop(data, epochs=1):
        inputs, target = step.batch
        inf = float("inf") if step.index == 1 else 1.0
        with step.only("b"):
            step.backward(nn.functional.mse_loss(second(inputs), target[:, 0]))
        with step.only("a"):
            step.backward(nn.functional.mse_loss(first(inputs), target[:, 0]) * inf)
            assert step.update() == (step.index != 1)
            if step.index == 1:  # once more in this turn, before the other one stepped
                step.backward(nn.functional.mse_loss(first(inputs), target[:, 0]))
                assert step.update()
        with step.only("b"):
            assert step.update()
    optimizer = sgd(alone)
    for inputs, target in data:
        optimizer.zero_grad()
        nn.functional.mse_loss(alone(inputs), target[:, 0]).backward()
        optimizer.step()
    assert equal(second, alone)
    assert equal(first, alone)
    assert run.precision.scaler.get_scale() == 2.0**15
