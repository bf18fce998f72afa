"""Accumulated gradients are the full batch's: deferred normalisation, in float64."""

from __future__ import annotations

import plain
import pytest
import torch
from material import quiet_run, worst
from torch import nn

EXACT = 1e-12


class Language(nn.Module):
    """A tiny language model: ids (B, T) to logits (B, T, 11)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.hidden = nn.Linear(5, 7)
        self.output = nn.Linear(7, 11)
        self.double()

    def forward(self, ids):
        return self.output(torch.tanh(self.hidden(self.embed(ids))))


def ragged(tokens: list[int], seed: int = 0):
    """Return micro-batches of 3 rows and 8 columns with so many targets each; the rest is -100."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for count in tokens:
        ids = torch.randint(0, 11, (3, 8), generator=generator)
        targets = torch.randint(0, 11, (3, 8), generator=generator)
        order = torch.randperm(24, generator=generator)[count:]
        targets.view(-1)[order] = -100
        batches.append((ids, targets))
    return batches


def joined(batches):
    """Return the batches as one."""
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def language(accumulate: int, **settings):
    """Return a model with known weights and a run that moves nothing: the learning rate is 0."""
    torch.manual_seed(3)
    model = Language()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return model, quiet_run(model=model, optimizer=optimizer, accumulate=accumulate, **settings)


def gradients_of(model):
    """Return copies of the gradients by parameter name."""
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def accumulated(batches, accumulate, weigh):
    """Return the finished gradients of every update; ``weigh(count)`` is the weight of a loss."""
    model, run = language(accumulate)
    found = []
    for step in run.loop(batches, epochs=1):
        loss, count = plain.token_loss(run.model, *step.batch)
        step.backward(loss, weight=weigh(count))
        if step.updates:
            step.gradients()
            found.append(gradients_of(model))
        step.update()
    assert all(p.grad is None for p in model.parameters())
    return model, found


WEIGHTS = {
    "a number": lambda count: count,
    "a float": float,
    "a 0-d tensor": torch.tensor,
    "a 0-d float tensor": lambda count: torch.tensor(float(count)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("tokens", [[24, 3, 11, 1], [1, 24, 24], [7, 7, 7, 7]])
def test_row_01_mean_of_means_in_accumulation(tokens, kind):
    """Micro-batches with unequal numbers of tokens give the full batch's gradients to 1e-12."""
    batches = ragged(tokens)
    model, found = accumulated(batches, len(tokens), WEIGHTS[kind])
    loss, _ = plain.token_loss(model, *joined(batches))
    assert len(found) == 1
    assert worst(found[0], plain.full_batch_gradients(model, loss)) < EXACT


def test_row_01_dividing_by_the_number_of_micro_batches_is_seen():
    """The comparison can fail: the mean of the micro-batches' means is off by more than a tenth."""
    batches = ragged([24, 3, 11, 1])
    model, found = accumulated(batches, 4, lambda count: 1)
    loss, _ = plain.token_loss(model, *joined(batches))
    assert worst(found[0], plain.full_batch_gradients(model, loss)) > 0.1


def test_samples_are_the_default_weight():
    """Without a weight, micro-batches of 5, 2 and 1 samples give the mean over all 8 samples."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 4, generator=generator).double() for n in (5, 2, 1)]
    model = nn.Linear(4, 1).double()
    run = quiet_run(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0), accumulate=3
    )
    for step in run.loop(batches, epochs=1):
        step.backward(run.model(step.batch).square().mean())
        if step.updates:
            step.gradients()
            found = gradients_of(model)
        step.update()
    whole = plain.full_batch_gradients(model, model(torch.cat(batches)).square().mean())
    unweighted = plain.full_batch_gradients(
        model, sum(model(batch).square().mean() for batch in batches) / 3
    )
    assert worst(found, whole) < EXACT
    assert worst(found, unweighted) > 1e-3


@pytest.mark.parametrize(("count", "accumulate"), [(7, 3), (5, 4), (3, 8), (4, 3)])
def test_row_03_last_short_window(count, accumulate):
    """The epoch's last window has fewer micro-batches: its gradient is the rest's own mean."""
    tokens = [5, 24, 2, 9, 13, 1, 17][:count]
    batches = ragged(tokens)
    model, found = accumulated(batches, accumulate, lambda n: n)
    rest = batches[count - (count % accumulate or accumulate) :]
    loss, _ = plain.token_loss(model, *joined(rest))
    expected = plain.full_batch_gradients(model, loss)
    assert len(found) == -(-count // accumulate)
    assert worst(found[-1], expected) < EXACT
    by_k = {name: g * (len(rest) / accumulate) for name, g in expected.items()}
    assert worst(by_k, expected) > 1e-3, "dividing by K would be seen"


def test_row_03_no_gradients_cross_an_epoch():
    """Each epoch ends with an update, and nothing of it is in the next epoch's first window."""
    batches = ragged([5, 24, 2])
    model, run = language(2)
    windows, found = [], []
    for step in run.loop(batches, epochs=2):
        loss, count = plain.token_loss(run.model, *step.batch)
        step.backward(loss, weight=count)
        windows.append(step.updates)
        if step.updates:
            step.gradients()
            found.append(gradients_of(model))
        step.update()
    assert windows == [False, True, True] * 2
    for first, second in zip(found[:2], found[2:], strict=True):
        assert worst(first, second) == 0.0


def test_skipped_turns_inside_a_window():
    """A turn that is passed over, or thrown away, leaves a window of the micro-batches around it."""
    batches = ragged([5, 24, 2, 9, 13])
    model, run = language(2)
    found = []
    for step in run.loop(batches, epochs=1):
        if step.index == 1:
            continue  # no backward: the window waits
        loss, count = plain.token_loss(run.model, *step.batch)
        step.backward(loss, weight=count)
        if step.index == 3:
            step.skip()
            continue
        if step.updates:
            step.gradients()
            found.append(gradients_of(model))
        step.update()
    assert run.totals["skipped"] == 2
    assert run.totals["updates"] == len(found) == 2
    for grads, turns in zip(found, ([0, 2], [4]), strict=True):
        loss, _ = plain.token_loss(model, *joined([batches[i] for i in turns]))
        assert worst(grads, plain.full_batch_gradients(model, loss)) < EXACT


def test_an_empty_micro_batch_weighs_nothing():
    """A loss of weight 0, first in its window or later, changes nothing; only zeros are an error."""
    from loopwright.errors import UsageError

    batches = ragged([8, 24, 3])
    for empty in (0, 1, 2):
        model, run = language(3)
        for step in run.loop(batches, epochs=1):
            loss, count = plain.token_loss(run.model, *step.batch)
            step.backward(loss, weight=0 if step.index == empty else count)
            if step.updates:
                step.gradients()
                found = gradients_of(model)
            step.update()
        rest = [batch for i, batch in enumerate(batches) if i != empty]
        loss, _ = plain.token_loss(model, *joined(rest))
        assert worst(found, plain.full_batch_gradients(model, loss)) < EXACT
    with pytest.raises(UsageError, match="add up to 0"):
        accumulated(batches[:2], 2, lambda count: 0)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_several_losses_in_one_turn_add_up(accumulate):
    """Two backward calls of one turn give the gradients of the summed losses, and log their sum."""
    batches = ragged([8, 24, 3])
    model, run = language(accumulate)
    found = []
    for step in run.loop(batches, epochs=1):
        loss, count = plain.token_loss(run.model, *step.batch)
        penalty = run.model.embed.weight.square().mean()
        step.backward(loss, weight=count)
        step.backward(penalty, weight=count)
        if step.updates:
            step.gradients()
            found.append(gradients_of(model))
        step.update()
    for number, grads in enumerate(found):
        part = batches[number * accumulate : (number + 1) * accumulate]
        loss = plain.token_loss(model, *joined(part))[0] + model.embed.weight.square().mean()
        assert worst(grads, plain.full_batch_gradients(model, loss)) < EXACT
    loss = plain.token_loss(model, *batches[0])[0] + model.embed.weight.square().mean()
    assert run.history.series["loss"].y[0] == pytest.approx(loss.item(), abs=EXACT)


def test_finished_gradients_are_the_users():
    """Noise and clipping of one's own between ``gradients()`` and ``update()`` reach the weights."""
    batches = ragged([8, 24])
    torch.manual_seed(3)
    model = Language()
    hand = Language()
    hand.load_state_dict(model.state_dict())
    run = quiet_run(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulate=2
    )
    for step in run.loop(batches, epochs=1):
        loss, count = plain.token_loss(run.model, *step.batch)
        step.backward(loss, weight=count)
        if step.updates:
            first = [g.clone() for g in step.gradients()]
            again = step.gradients()
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "once only"
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            for grad in again:
                grad.add_(0.001)
        step.update()
    loss, _ = plain.token_loss(hand, *joined(batches))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(hand.parameters(), 0.01)
    for parameter in hand.parameters():
        parameter.grad.add_(0.001)
    torch.optim.SGD(hand.parameters(), lr=0.1).step()
    assert worst(model.state_dict(), hand.state_dict()) < EXACT


def test_row_07_clip_per_micro_batch():
    """The norm that is clipped, and recorded, is the full batch's and not a micro-batch's."""
    batches = ragged([24, 3, 11, 1])
    model, run = language(4, clip=0.05)
    losses = []
    clipped = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: clipped.append(
            torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
        )
    )
    for step in run.loop(batches, epochs=1):
        loss, count = plain.token_loss(run.model, *step.batch)
        losses.append(loss.item())
        step.backward(loss, weight=count)
        step.update()
    loss, _ = plain.token_loss(model, *joined(batches))
    expected = torch.nn.utils.get_total_norm(
        list(plain.full_batch_gradients(model, loss).values())
    ).item()
    one = torch.nn.utils.get_total_norm(
        list(plain.full_batch_gradients(model, plain.token_loss(model, *batches[0])[0]).values())
    ).item()
    assert run.history.series["grad_norm"].y == [pytest.approx(expected, abs=EXACT)]
    assert abs(one - expected) > 1e-3, "a micro-batch's own norm would be seen"
    assert clipped == [pytest.approx(0.05, rel=1e-4)]


def test_row_18_loss_shown_divided_by_the_window():
    """The losses that are recorded are the micro-batches' own, and the epoch's is their weighted mean."""
    tokens = [24, 3, 11, 1]
    batches = ragged(tokens)
    model, run = language(4)
    losses = []
    for step in run.loop(batches, epochs=1):
        loss, count = plain.token_loss(run.model, *step.batch)
        losses.append(loss.item())
        step.backward(loss, weight=count)
        step.update()
    assert run.history.series["loss"].y == losses
    expected, _ = plain.token_loss(model, *joined(batches))
    assert run.history.epochs[0].values["train_loss"] == pytest.approx(expected.item(), abs=EXACT)
    assert abs(sum(losses) / 4 - expected.item()) > 1e-3, "the mean of means would be seen"
