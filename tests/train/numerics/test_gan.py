"""Several models and optimizers in one turn: a GAN, alternating updates, optimizers without gradients."""

from __future__ import annotations

import pytest
import torch
from material import equal, quiet_run, state, worst
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim.lr_scheduler import StepLR

import loopwright as lw


def networks(dtype=torch.float32):
    """Return a generator and a discriminator with known weights."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
    discriminator = nn.Sequential(
        nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(8, 1)
    )
    return generator.to(dtype), discriminator.to(dtype)


def optimizers(generator, discriminator):
    """Return the usual two."""
    return {
        "generator": torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999)),
        "discriminator": torch.optim.SGD(discriminator.parameters(), lr=0.05, momentum=0.9),
    }


def real(turns=6, sizes=(5,), dtype=torch.float32):
    """Return batches of real samples."""
    torch.manual_seed(1)
    return [torch.randn(sizes[i % len(sizes)], 6, dtype=dtype) for i in range(turns)]


def loss_of_discriminator(discriminator, x, fake):
    """Tell real from made."""
    yes, no = discriminator(x), discriminator(fake.detach())
    return bce(yes, torch.ones_like(yes)) + bce(no, torch.zeros_like(no))


def loss_of_generator(discriminator, fake):
    """Be taken for real."""
    yes = discriminator(fake)
    return bce(yes, torch.ones_like(yes))


def plain_gan():
    """Train both by hand, as everybody does."""
    generator, discriminator = networks()
    both = optimizers(generator, discriminator)
    data = real()
    torch.manual_seed(2)
    for x in data:
        fake = generator(torch.randn(len(x), 4))
        both["discriminator"].zero_grad()
        loss_of_discriminator(discriminator, x, fake).backward()
        both["discriminator"].step()
        both["generator"].zero_grad()
        loss_of_generator(discriminator, fake).backward()
        both["generator"].step()
    return generator, discriminator


def gan(style, *, seed=2):
    """Train both with a run; ``style`` says where the forward passes stand, and who is named how."""
    generator, discriminator = networks()
    both = optimizers(generator, discriminator)
    run = quiet_run(model={"generator": generator, "discriminator": discriminator}, optimizer=both)
    data = real()
    torch.manual_seed(seed)
    for step in run.loop(data, epochs=1):
        x = step.batch
        fake = run.model["generator"](torch.randn(len(x), 4))
        if style == "inside":
            with step.only("discriminator"):
                step.backward(loss_of_discriminator(discriminator, x, fake))
                step.update()
            with step.only("generator"):
                step.backward(loss_of_generator(discriminator, fake))
                step.update()
            continue
        loss = loss_of_discriminator(discriminator, x, fake)
        with step.only(run.optimizer["discriminator"]):
            step.backward(loss)
            step.update()
        loss = loss_of_generator(discriminator, fake)
        with step.only(both["generator"]):
            step.backward(loss)
            step.update()
    return generator, discriminator, run


@pytest.mark.parametrize("style", ["inside", "outside"])
def test_gan_is_the_plain_gan(style):
    """With forwards inside or outside ``step.only``, both networks have the plain loop's bits."""
    expected = plain_gan()
    generator, discriminator, _ = gan(style)
    assert equal(generator, expected[0])
    assert equal(discriminator, expected[1])


def test_another_noise_gives_other_bits():
    """The comparison can fail: one altered seed goes elsewhere."""
    expected = plain_gan()
    generator, discriminator, _ = gan("inside", seed=3)
    assert not equal(generator, expected[0])
    assert not equal(discriminator, expected[1])


def test_row_20_step_counter_doubled_by_two_optimizers():
    """Two updates in a turn are one turn: counters, curves and ``step.index`` say so."""
    _, _, run = gan("inside")
    assert run.totals["turns"] == len(real())
    assert run.history.series["loss"].x == list(range(1, len(real()) + 1))
    assert {"loss/generator", "loss/discriminator"} <= set(run.history.series)


@pytest.mark.parametrize("named", [True, False])
def test_row_17_backward_of_the_generator_fills_the_discriminator(named):
    """Inside ``only`` the generator's loss leaves D.grad as it is, with a window open; outside not."""
    generator, discriminator = networks(torch.float64)
    run = quiet_run(
        model={"generator": generator, "discriminator": discriminator},
        optimizer=optimizers(generator, discriminator),
        accumulate=2,
    )
    unchanged = []
    for step in run.loop(real(4, dtype=torch.float64), epochs=1):
        x = step.batch
        fake = generator(torch.randn(len(x), 4, dtype=torch.float64))
        with step.only("discriminator"):
            step.backward(loss_of_discriminator(discriminator, x, fake))
        before = {n: p.grad.clone() for n, p in discriminator.named_parameters()}
        if named:
            with step.only("generator"):
                step.backward(loss_of_generator(discriminator, fake))
        else:
            step.backward(loss_of_generator(discriminator, fake))
        after = {n: p.grad for n, p in discriminator.named_parameters()}
        unchanged.append(worst(before, after) == 0.0)
        step.update()
    assert unchanged == [named] * 4
    assert run.totals["turns"] == 4
    assert run.totals["updates"] == 2


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_joint_loss_beside_one_optimizers_own(order, accumulate):
    """Losses for one optimizer and for both, in one turn, add up to the exact full-batch gradients."""
    torch.manual_seed(0)
    model = {"first": nn.Linear(4, 3).double(), "second": nn.Linear(3, 1).double()}
    data = [torch.randn(n, 4, dtype=torch.float64) for n in (5, 2, 6)]
    run = quiet_run(
        model=model,
        optimizer={n: torch.optim.SGD(model[n].parameters(), lr=0.0) for n in order},
        accumulate=accumulate,
    )

    def joint(x):
        return model["second"](model["first"](x)).square().mean()

    def own(x):
        return (model["second"].weight.sum() * x).square().mean()

    parameters = [p for n in ("first", "second") for p in model[n].parameters()]
    found, expected = [], []
    for step in run.loop(data, epochs=1):
        x = step.batch
        with step.only("second"):
            step.backward(own(x))
        step.backward(joint(x))
        if step.updates:
            step.gradients()
            whole = torch.cat(data) if accumulate == 3 else x
            found.append([p.grad.clone() for p in parameters])
            expected.append(torch.autograd.grad(own(whole) + joint(whole), parameters))
        step.update()
    assert len(found) == (1 if accumulate == 3 else 3)
    assert all(worst(a, b) < 1e-12 for a, b in zip(found, expected, strict=True))


def test_alternating_updates():
    """Each optimizer steps, and its schedule counts, only in the turns that update it."""

    def make():
        generator, discriminator = networks()
        both = optimizers(generator, discriminator)
        return generator, discriminator, both, {n: StepLR(o, 2, gamma=0.5) for n, o in both.items()}

    def turn_of(index):
        return "generator" if index % 3 == 2 else "discriminator"

    hand_g, hand_d, both, schedules = make()
    data = real(7)
    torch.manual_seed(2)
    for index, x in enumerate(data):
        fake = hand_g(torch.randn(len(x), 4))
        name = turn_of(index)
        both[name].zero_grad()
        if name == "generator":
            loss_of_generator(hand_d, fake).backward()
        else:
            loss_of_discriminator(hand_d, x, fake).backward()
        both[name].step()
        schedules[name].step()
    generator, discriminator, ours, schedules = make()
    run = quiet_run(
        model={"generator": generator, "discriminator": discriminator},
        optimizer=ours,
        scheduler={n: lw.per_update(s) for n, s in schedules.items()},
    )
    torch.manual_seed(2)
    for step in run.loop(data, epochs=1):
        fake = generator(torch.randn(len(step.batch), 4))
        name = turn_of(step.index)
        with step.only(name):
            step.backward(
                loss_of_generator(discriminator, fake)
                if name == "generator"
                else loss_of_discriminator(discriminator, step.batch, fake)
            )
            step.update()
    assert equal(generator, hand_g)
    assert equal(discriminator, hand_d)
    for name, optimizer in ours.items():
        assert optimizer.param_groups[0]["lr"] == both[name].param_groups[0]["lr"]


def test_an_optimizer_without_gradients_is_not_stepped():
    """``update()`` outside ``only`` passes over optimizers that got no gradient, and their schedules."""
    torch.manual_seed(0)
    used, unused = nn.Linear(4, 1), nn.Linear(4, 1)
    both = {
        "used": torch.optim.AdamW(used.parameters(), lr=0.1, weight_decay=0.5),
        "unused": torch.optim.AdamW(unused.parameters(), lr=0.1, weight_decay=0.5),
    }
    before = state(unused)
    run = quiet_run(
        model={"used": used, "unused": unused},
        optimizer=both,
        scheduler={n: lw.per_update(StepLR(o, 1, gamma=0.5)) for n, o in both.items()},
    )
    for step in run.loop([torch.randn(3, 4)] * 2, epochs=1):
        step.backward(used(step.batch).square().mean())
        assert step.update()
    assert worst(state(unused), before) == 0.0
    assert [o.param_groups[0]["lr"] for o in both.values()] == [0.025, 0.1]
    assert not both["unused"].state


def test_critic_steps_within_one_turn():
    """Several updates of one optimizer in a turn are the plain loop's, and one turn."""

    def losses(critic, x):
        return (critic(x).mean() - 1).square() + 0.01 * critic(x).square().mean()

    torch.manual_seed(0)
    hand = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(hand.parameters(), lr=0.1, momentum=0.9)
    for x in real(3):
        for _ in range(4):
            optimizer.zero_grad()
            losses(hand, x).backward()
            optimizer.step()
    torch.manual_seed(0)
    critic = nn.Linear(6, 1)
    run = quiet_run(
        model=critic, optimizer=torch.optim.SGD(critic.parameters(), lr=0.1, momentum=0.9)
    )
    for step in run.loop(real(3), epochs=1):
        for _ in range(4):
            step.backward(losses(critic, step.batch))
            step.update()
    assert equal(critic, hand)
    assert (run.totals["turns"], run.totals["updates"]) == (3, 12)
