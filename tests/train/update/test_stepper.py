"""What backward, finish and update do to the gradients of several optimizers, without a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopwright.errors import NonFiniteError, StateError, UsageError
from loopwright.train.update.gradients import parse_clip
from loopwright.train.update.precision import Precision
from loopwright.train.update.stepper import Stepper

SITE = ((lambda: None).__code__, 0)


class Stops:
    """What is done about gradients that are not finite: an error."""

    policy = "stop"

    def gradients(self, names, turn, site):
        raise NonFiniteError(f"turn {turn + 1}: {', '.join(names)}", slug="nonfinite-gradient")

    def was_finite(self):
        pass


class Bench:
    """Two models in float64 under two optimizers, and who was told of a step."""

    def __init__(self, *, clip=None, precision="fp32", names=("a", "b")):
        torch.manual_seed(0)
        self.models = {name: nn.Linear(3, 1).double() for name in names}
        self.optimizers = {
            n: torch.optim.SGD(m.parameters(), lr=0.5) for n, m in self.models.items()
        }
        self.told = []
        self.stepper = Stepper(
            self.optimizers,
            precision=Precision(precision, torch.device("cpu")),
            clip=parse_clip(clip),
            names=lambda: {p: f"{k}.{n}" for k, m in self.models.items() for n, p in m.named_parameters()},
            after_step=lambda windows, metric: self.told.append(([w.name for w in windows], metric)),
            nonfinite=Stops(),
        )  # fmt: skip
        self.x = torch.randn(4, 3, dtype=torch.float64)

    def loss(self, *names, x=None):
        x = self.x if x is None else x
        return sum(self.models[name](x).square().mean() for name in names)

    def backward(self, loss, weight=4, *, turn=0, closes=True, only=None):
        only = None if only is None else self.stepper.window_of(only)
        self.stepper.backward(loss, weight, turn=turn, closes=closes, only=only, site=SITE)

    def grads(self, name):
        return [p.grad for p in self.models[name].parameters()]


def test_window_of_a_name_or_an_object():
    """An optimizer is found by its name or itself; a stranger is an error that lists the names."""
    bench = Bench()
    assert bench.stepper.window_of("b") is bench.stepper.windows["b"]
    assert bench.stepper.window_of(bench.optimizers["b"]) is bench.stepper.windows["b"]
    with pytest.raises(UsageError, match=r"\(a, b\)"):
        bench.stepper.window_of("c")


def test_one_closing_backward_multiplies_nothing():
    """The gradients of a window of one turn are autograd's own, whatever the weight."""
    bench = Bench()
    loss = bench.loss("a", "b")
    expected = torch.autograd.grad(loss, list(bench.models["a"].parameters()), retain_graph=True)
    bench.backward(loss, weight=3)
    assert all(torch.equal(g, e) for g, e in zip(bench.grads("a"), expected, strict=True))
    assert bench.stepper.windows["a"].total is None


def test_one_step_tells_of_all_windows_at_once():
    """After an update of two optimizers their schedules and the average hear of it once."""
    bench = Bench()
    bench.backward(bench.loss("a", "b"))
    assert bench.stepper.update(None, turn=0, metric=0.5)
    assert bench.told == [(["a", "b"], 0.5)]
    assert bench.grads("a") == [None, None]
    assert [w.updates for w in bench.stepper.windows.values()] == [1, 1]


def test_only_the_named_optimizers_parameters_get_gradients():
    """A loss over both models, for one optimizer, leaves the other's parameters without gradients."""
    bench = Bench()
    bench.backward(bench.loss("a", "b"), only="b")
    assert bench.grads("a") == [None, None]
    assert [w.name for w in bench.stepper.pending()] == ["b"]


def test_gradients_of_the_pending_update_wait_for_it():
    """Updating one optimizer leaves the other's gradients pending, and its unit with them."""
    bench = Bench()
    bench.backward(bench.loss("a"), closes=False, only="a")
    bench.backward(bench.loss("b"), closes=False, only="b")
    unit = bench.stepper.unit
    bench.stepper.update(bench.stepper.window_of("a"), turn=0)
    assert bench.stepper.unit == unit == 4.0
    assert [w.name for w in bench.stepper.pending()] == ["b"]
    bench.stepper.update(bench.stepper.window_of("b"), turn=0)
    assert bench.stepper.unit is None


def test_windows_of_different_length():
    """An optimizer whose window opened a turn later is normalised by its own weights."""
    bench = Bench()
    parts = [torch.randn(n, 3, dtype=torch.float64) for n in (5, 2)]
    bench.backward(bench.loss("a", x=parts[0]), 5, turn=0, closes=False, only="a")
    bench.backward(bench.loss("a", x=parts[1]), 2, turn=1, only="a")
    bench.backward(bench.loss("b", x=parts[1]), 2, turn=1, only="b")
    bench.stepper.finish(bench.stepper.pending())
    for name, x in (("a", torch.cat(parts)), ("b", parts[1])):
        expected = torch.autograd.grad(bench.loss(name, x=x), list(bench.models[name].parameters()))
        for grad, value in zip(bench.grads(name), expected, strict=True):
            torch.testing.assert_close(grad, value, rtol=1e-13, atol=1e-13)


def test_two_weights_in_a_turn():
    """A second loss of a turn with another weight is an error; with an equal tensor it is not."""
    bench = Bench(names=("a",))
    bench.backward(bench.loss("a"), torch.tensor(4))
    bench.backward(bench.loss("a"), torch.tensor(4))
    with pytest.raises(UsageError, match="different weights") as caught:
        bench.backward(bench.loss("a"), torch.tensor(5))
    assert caught.value.slug == "two-weights-in-a-turn"


def test_backward_after_finished_gradients():
    """A loss that would add to unscaled, normalised gradients is an error."""
    bench = Bench()
    bench.backward(bench.loss("a", "b"))
    bench.stepper.finish(bench.stepper.pending())
    with pytest.raises(StateError, match="finished") as caught:
        bench.backward(bench.loss("a"))
    assert caught.value.slug == "gradients-finished"


def test_a_loss_that_reaches_nothing():
    """A first update without any gradient is an error; a later one passes over the optimizer."""
    bench = Bench(names=("a",))
    other = nn.Linear(3, 1).double()
    bench.backward(other(bench.x).sum())
    with pytest.raises(StateError, match="reached no parameter"):
        bench.stepper.update(None, turn=0)
    bench.stepper.discard()
    bench.backward(bench.loss("a"), turn=1)
    assert bench.stepper.update(None, turn=1)
    bench.backward(other(bench.x).sum(), turn=2)
    assert not bench.stepper.update(None, turn=2)
    assert bench.told == [(["a"], None)]
    assert not bench.stepper.pending()


def test_a_gradient_that_is_not_finite_steps_nothing():
    """NaN in a gradient names the parameter and leaves the weights as they were."""
    bench = Bench()
    before = [p.detach().clone() for p in bench.models["a"].parameters()]
    bench.backward(bench.loss("a", "b"))
    bench.models["b"].bias.grad.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"b\.bias") as caught:
        bench.stepper.update(None, turn=0)
    assert caught.value.slug == "nonfinite-gradient"
    assert all(
        torch.equal(p, b) for p, b in zip(bench.models["a"].parameters(), before, strict=True)
    )


def test_a_norm_that_overflows_is_clipped_exactly():
    """Finite gradients whose norm overflows float32 are clipped to the limit."""
    bench = Bench(clip=1.0, names=("a",))
    bench.models["a"].float()
    model = bench.models["a"]
    before = model.weight.detach().clone()
    bench.backward((model(bench.x.float()) * 1e25).sum())
    for parameter in model.parameters():
        parameter.grad.fill_(1e25)
    bench.stepper.update(None, turn=0)
    assert bench.stepper.grad_norm == pytest.approx(2e25, rel=1e-6)
    torch.testing.assert_close(before - model.weight, torch.full((1, 3), 0.25))


@pytest.mark.parametrize("bad", ["a", "b"])
def test_fp16_leaves_out_one_of_two(bad):
    """Where one optimizer's scaled gradients are not finite, the other one steps, and all are cleared."""
    bench = Bench(precision="fp16")
    before = {name: model.weight.detach().clone() for name, model in bench.models.items()}
    bench.backward(bench.loss("a", "b"))
    bench.models[bad].weight.grad.fill_(torch.inf)
    assert bench.stepper.update(None, turn=0)
    for name, model in bench.models.items():
        assert torch.equal(model.weight, before[name]) == (name == bad)
    assert bench.grads("a") == bench.grads("b") == [None, None]
    assert bench.told == [(["b" if bad == "a" else "a"], None)]


def test_discard_forgets_everything():
    """After ``discard`` no gradient, unit or window is left."""
    bench = Bench()
    bench.backward(bench.loss("a", "b"), closes=False)
    bench.stepper.discard()
    assert bench.grads("a") == bench.grads("b") == [None, None]
    assert not bench.stepper.pending()
    assert bench.stepper.unit is None


def test_the_largest_window_counts():
    """``most_turns`` is the fullest window's count of micro-batches."""
    bench = Bench()
    bench.backward(bench.loss("a"), turn=0, closes=False, only="a")
    bench.backward(bench.loss("a", "b"), turn=1, closes=False)
    assert bench.stepper.most_turns() == 2
