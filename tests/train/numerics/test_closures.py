"""Optimizers that evaluate the loss themselves: LBFGS and SAM through ``step.minimize``."""

from __future__ import annotations

import pytest
import torch
from material import Net, equal, prepared, quiet_run
from torch import nn

import loopwright as lw
from loopwright.errors import StateError, UsageError

CRITERION = nn.CrossEntropyLoss()


class Smooth(nn.Module):
    """A classifier without dropout, so that every evaluation draws the same: nothing."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return self.layers(x)


LBFGS = {
    "plain": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=6),
    "strong wolfe": lambda p: torch.optim.LBFGS(p, max_iter=8, line_search_fn="strong_wolfe"),
}


def minimized(make_optimizer, model=Smooth, *, seed=0, **settings):
    """Train with ``step.minimize``; returns the model, the run, the losses and the evaluations."""
    net, optimizer, loader = prepared(make_optimizer, model=model)
    if seed:
        lw.seed(seed)
    run = quiet_run(model=net, optimizer=optimizer, **settings)
    losses, evaluations = [], 0
    for step in run.loop(loader, epochs=2):
        inputs, labels = step.batch

        def loss(inputs=inputs, labels=labels):
            nonlocal evaluations
            evaluations += 1
            return CRITERION(run.model(inputs), labels)

        losses.append(step.minimize(loss).item())
    return net, run, losses, evaluations


@pytest.mark.parametrize("name", LBFGS)
def test_lbfgs_is_the_plain_closure(name):
    """LBFGS through ``minimize`` gives the bits, the losses and the evaluations of the plain closure."""
    hand, optimizer, loader = prepared(LBFGS[name], model=Smooth)
    losses, evaluations = [], 0
    for _ in range(2):
        for data, labels in loader:

            def closure(data=data, labels=labels):
                nonlocal evaluations
                evaluations += 1
                optimizer.zero_grad()
                loss = CRITERION(hand(data), labels)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    model, run, ours, count = minimized(LBFGS[name])
    assert equal(model, hand)
    assert (ours, count) == (losses, evaluations)
    assert run.totals["updates"] == run.totals["turns"] == len(losses) < evaluations
    other, *_ = minimized(LBFGS[name], seed=1)
    assert not equal(other, hand), "another order would be seen"


class Sam(torch.optim.Optimizer):
    """Sharpness-aware minimisation over a base optimizer (Foret et al. 2021, arXiv:2010.01412)."""

    def __init__(self, params, base, rho=0.05):
        super().__init__(params, {"rho": rho})
        self.base = base(self.param_groups)

    @torch.no_grad()
    def climb(self):
        norm = torch.stack([p.grad.norm() for p in self.all()]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["here"] = p.detach().clone()
                self.write(p, p + group["rho"] * p.grad / (norm + 1e-12))

    def write(self, p, value):
        p.copy_(value)

    @torch.no_grad()
    def descend(self):
        for p in self.all():
            self.write(p, self.state[p]["here"])
        self.base.step()

    def all(self):
        return [p for group in self.param_groups for p in group["params"]]


class SamOfTwoEvaluations(Sam):
    """Evaluates the closure twice inside ``step``."""

    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
            self.climb()
            closure()
        self.descend()
        return loss


class SamThatClearsFirst(SamOfTwoEvaluations):
    """Throws away what gradients there are before it evaluates."""

    def step(self, closure):
        self.zero_grad()
        return super().step(closure)


class SamOnGivenGradients(Sam):
    """Expects the gradients of a first evaluation to be there, and evaluates once more."""

    def step(self, closure):
        self.climb()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.descend()


class SamThroughData(SamOnGivenGradients):
    """Writes through ``.data``, which no version counter sees."""

    def write(self, p, value):
        p.data = value.clone()


def base(groups):
    """Return what steps on SAM's gradients."""
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def sam_by_hand():
    """Train with SAM, both evaluations with the same dropout; returns the model."""
    hand, optimizer, loader = prepared(lambda p: Sam(p, base), model=Net)
    for _ in range(2):
        for data, labels in loader:
            draws = torch.get_rng_state()
            optimizer.zero_grad()
            CRITERION(hand(data), labels).backward()
            optimizer.climb()
            torch.set_rng_state(draws)
            optimizer.zero_grad()
            CRITERION(hand(data), labels).backward()
            optimizer.descend()
    return hand


@pytest.mark.parametrize(
    "style", [SamOfTwoEvaluations, SamThatClearsFirst, SamOnGivenGradients, SamThroughData]
)
def test_sam_is_the_plain_sam(style):
    """SAM that evaluates twice, or once on given gradients, gives the hand-written bits in two passes.

    BatchNorm's statistics are among them: a third evaluation would move them.
    """
    model, run, losses, evaluations = minimized(lambda p: style(p, base), Net)
    assert equal(model, sam_by_hand())
    assert evaluations == 2 * len(losses)
    assert run.totals["updates"] == run.totals["turns"] == len(losses)


def test_sam_without_the_climb_would_be_seen():
    """The comparison can fail: a radius of 0 goes elsewhere."""
    model, *_ = minimized(lambda p: SamOfTwoEvaluations(p, base, rho=0.0), Net)
    assert not equal(model, sam_by_hand())


def test_each_evaluation_is_clipped():
    """``clip=`` holds for the gradients of every evaluation, as it would in the plain closure."""
    hand, optimizer, loader = prepared(LBFGS["plain"], model=Smooth)
    for _ in range(2):
        for data, labels in loader:

            def closure(data=data, labels=labels):
                optimizer.zero_grad()
                loss = CRITERION(hand(data), labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(hand.parameters(), 0.1)
                return loss

            optimizer.step(closure)
    model, *_ = minimized(LBFGS["plain"], clip=0.1)
    assert equal(model, hand)
    unclipped, *_ = minimized(LBFGS["plain"])
    assert not equal(unclipped, hand)


def test_minimize_one_of_two():
    """With several optimizers the named one is minimised, and the other's parameters get no gradient."""
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3), nn.Linear(3, 1)
    hand = nn.Linear(4, 3)
    hand.load_state_dict(first.state_dict())
    x = torch.randn(6, 4)
    optimizer = torch.optim.LBFGS(hand.parameters(), max_iter=5)

    def closure():
        optimizer.zero_grad()
        loss = second(hand(x)).square().mean()
        loss.backward(inputs=list(hand.parameters()))
        return loss

    optimizer.step(closure)
    run = quiet_run(
        model={"a": first, "b": second},
        optimizer={
            "a": torch.optim.LBFGS(first.parameters(), max_iter=5),
            "b": torch.optim.SGD(second.parameters(), lr=0.1),
        },
    )
    for step in run.loop([x], epochs=1):
        step.minimize(lambda x=step.batch: second(first(x)).square().mean(), "a")
        assert all(p.grad is None for p in second.parameters())
    assert equal(first, hand)


def test_refusals():
    """fp16, a closure that nobody calls, and a loss that reaches no parameter are errors."""

    class Lazy(torch.optim.SGD):
        def step(self, closure=None):
            return None

    def one_turn(model, optimizer, loss, **settings):
        run = quiet_run(model=model, optimizer=optimizer, **settings)
        for step in run.loop([torch.randn(3, 4)], epochs=1):
            step.minimize(lambda batch=step.batch: loss(batch))

    model = nn.Linear(4, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="more than once"):
        one_turn(model, sgd, lambda x: model(x).mean(), precision="fp16")
    other = nn.Linear(4, 1)
    with pytest.raises(StateError, match="no parameter of the optimizer got a gradient"):
        one_turn(model, sgd, lambda x: other(x).mean())
    Lazy.__module__ = "torch.optim.lazy"
    with pytest.raises(StateError, match="never called the closure"):
        one_turn(model, Lazy(model.parameters(), lr=0.1), lambda x: model(x).mean())
