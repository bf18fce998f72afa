"""Mistakes in a loop's body are errors of the right kind, at the user's line, with the line to write."""

from __future__ import annotations

import pytest
import torch
from small import line_of, loader, make, turn
from torch import nn

from loopwright.errors import DataError, NonFiniteError, StateError, UsageError

mse = nn.functional.mse_loss


def check(caught, kind, slug, mark, hint=""):
    """The error is of this kind, names the marked line, and says what to write."""
    error = caught.value
    assert type(error) is kind
    assert error.slug == slug
    assert error.where == (None if mark is None else line_of(__file__, mark))
    assert hint in (error.hint or "")
    if mark is not None:
        assert str(error).startswith(error.where)


def loss_of(run, step):
    """The batch's loss."""
    x, y = step.batch
    return mse(run.model(x), y)


def test_forgotten_update():
    """Gradients that wait at the next turn are an error at the line of their backward."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step))  # <- forgotten
    check(caught, StateError, "forgotten-update", "forgotten", "step.update() after")


def test_forgotten_update_at_the_last_turn():
    """The loop's last turn is no exception: its forgotten update is an error too."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), steps=1):
            step.backward(loss_of(run, step))  # <- forgotten at last
    check(caught, StateError, "forgotten-update", "forgotten at last")


def test_forgotten_update_in_a_window():
    """update() belongs into every turn, also inside an accumulation window."""
    run = make(accumulate=3)
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step))  # <- forgotten in a window
            if step.updates:
                step.update()
    check(caught, StateError, "forgotten-update", "forgotten in a window")


def test_backward_after_update():
    """A second backward after update() leaves gradients that nobody used."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            step.backward(loss_of(run, step))  # <- after update
    check(caught, StateError, "forgotten-update", "after update")


@pytest.mark.parametrize("what", ["backward", "update", "skip", "log", "gradients", "minimize"])
def test_stale_step(what):
    """A step of an earlier turn is refused, whatever is called on it."""
    run = make()
    old = None
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            if old is None:
                old = step
                turn(run, step)
                continue
            arguments = {"backward": [loss_of(run, step)], "minimize": [lambda: None]}.get(what, [])
            getattr(old, what)(*arguments)  # <- stale
    check(caught, StateError, "stale-step", "stale", "the step that the loop gives")
    assert f"step.{what}()" in str(caught.value)
    assert "step 1" in str(caught.value)


def test_stale_step_only():
    """``with step.only(...)`` of an earlier turn is refused at its line."""
    run = make()
    steps = []
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            steps.append(step)
            with steps[0].only("optimizer"):  # <- stale only
                turn(run, step)
    check(caught, StateError, "stale-step", "stale only")


def test_step_after_the_loop():
    """The last step is of no use once the loop is over."""
    run = make()
    for step in run.loop(loader(), steps=1):
        turn(run, step)
    with pytest.raises(StateError) as caught:
        step.log(late=1.0)  # <- after the loop
    check(caught, StateError, "stale-step", "after the loop")
    assert "the loop is over" in str(caught.value)


def test_optimizer_stepped_directly():
    """optimizer.step() of a run's optimizer inside its loop is refused before it moves anything."""
    run = make()
    before = run.model.weight.detach().clone()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step))
            run.optimizer.step()  # <- direct
    check(caught, StateError, "optimizer-stepped-directly", "direct", "step.update() instead")
    assert torch.equal(before, run.model.weight)


def test_optimizer_is_free_after_the_loop():
    """After the loop, and between two loops, the optimizer is the user's again."""
    run = make()
    for step in run.loop(loader(), steps=1):
        turn(run, step)
    run.model(torch.ones(1, 3)).sum().backward()
    run.optimizer.step()
    run.optimizer.zero_grad()
    for step in run.loop(loader(), steps=1):
        turn(run, step)


def test_another_optimizer_is_free():
    """An optimizer that the run was not given steps as it likes."""
    run = make()
    other = nn.Linear(1, 1)
    own = torch.optim.SGD(other.parameters(), lr=0.1)
    for step in run.loop(loader(), steps=2):
        turn(run, step)
        other(torch.ones(1, 1)).sum().backward()
        own.step()
        own.zero_grad()


def test_plain_backward():
    """loss.backward() leaves gradients that the run cannot weight: an error at step.update()."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            loss_of(run, step).backward()
            step.update()  # <- update of a plain backward
    check(caught, StateError, "plain-backward", "update of a plain backward", "step.backward(loss)")


def test_plain_backward_without_update():
    """loss.backward() and nothing else is an error at the turn's end, at the line of the for."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):  # <- for of a plain backward
            loss_of(run, step).backward()
    check(caught, StateError, "plain-backward", "for of a plain backward", "step.backward(loss)")


def test_plain_backward_through_tqdm():
    """The line of the for is named also when something of another library is around the loop."""
    from tqdm import tqdm

    run = make()
    with pytest.raises(StateError) as caught:
        for step in tqdm(run.loop(loader(), epochs=1), disable=True):  # <- tqdm of a plain backward
            loss_of(run, step).backward()
    check(caught, StateError, "plain-backward", "tqdm of a plain backward")


@pytest.mark.parametrize("turns_before", [1, 4])
def test_plain_backward_later(turns_before):
    """A plain backward in a later turn is found as well."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            if step.index < turns_before:
                turn(run, step)
            else:
                loss_of(run, step).backward()
    assert caught.value.slug == "plain-backward"


def test_update_before_backward():
    """update() with no gradients is refused at its line."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.update()  # <- early
            step.backward(loss_of(run, step))
    check(caught, StateError, "update-before-backward", "early", "step.backward(loss) first")


def test_second_update():
    """A second update() in a turn has nothing to apply."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            step.update()  # <- second update
    check(caught, StateError, "update-before-backward", "second update")


def test_gradients_before_backward():
    """step.gradients() before any backward has none to give."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.gradients()  # <- no gradients
    check(caught, StateError, "no-gradient", "no gradients")


def test_gradients_in_a_window():
    """step.gradients() inside an accumulation window is refused: they are not complete."""
    run = make(accumulate=2)
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step))
            step.gradients()  # <- gradients in a window
    check(caught, StateError, "window-open", "gradients in a window", "if step.updates")


@pytest.mark.parametrize(
    ("make_loss", "slug", "hint"),
    [
        (lambda out, y: (out - y).square(), "loss-not-scalar", "loss.mean()"),
        (lambda out, y: mse(out, y).item(), "loss-not-a-tensor", "no .item()"),
        (lambda out, y: None, "loss-not-a-tensor", "the tensor itself"),
        (lambda out, y: mse(out.detach(), y), "loss-not-attached", "torch.no_grad()"),
    ],
)
def test_what_is_no_loss(make_loss, slug, hint):
    """A loss that is no tensor, not one number or not attached is refused at its line."""
    run = make()
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            x, y = step.batch
            step.backward(make_loss(run.model(x), y))  # <- no loss
    check(caught, UsageError, slug, "no loss", hint)


def test_loss_of_one_element():
    """A loss of shape (1,) is one number and trains."""
    run = make()
    for step in run.loop(loader(), steps=2):
        step.backward(loss_of(run, step).reshape(1))
        step.update()
    assert run.totals["updates"] == 2


def test_two_weights():
    """Two losses of one turn with different weights are refused at the second's line."""
    run = make(accumulate=2)
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step), weight=4)
            step.backward(loss_of(run, step), weight=3)  # <- other weight
    check(caught, UsageError, "two-weights-in-a-turn", "other weight", "the same weight")


def test_negative_weight():
    """A negative weight is refused at its line."""
    run = make()
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step), weight=-1.0)  # <- negative
    check(caught, UsageError, "weight-out-of-range", "negative")


def test_loss_not_finite():
    """A loss that is nan is an error at its line, and the weights have not moved."""
    run = make()
    before = run.model.weight.detach().clone()
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step) * float("nan"))  # <- nan
            step.update()
    check(caught, NonFiniteError, "nonfinite-loss", "nan", "lr")
    assert torch.equal(before, run.model.weight)


def test_gradient_not_finite():
    """A gradient that is not finite is an error at the line of its backward, with the parameter."""
    run = make()
    before = run.model.weight.detach().clone()
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(), epochs=1):
            run.model.weight.register_hook(lambda g: g * float("inf"))
            step.backward(loss_of(run, step))  # <- inf gradient
            step.update()
    check(caught, NonFiniteError, "nonfinite-gradient", "inf gradient")
    assert "weight" in str(caught.value)
    assert torch.equal(before, run.model.weight)


def test_loop_entered_twice():
    """One loop is iterated once; a second time says to make another."""
    run = make()
    loop = run.loop(loader(), epochs=1)
    for step in loop:
        turn(run, step)
    with pytest.raises(StateError) as caught:
        iter(loop)  # <- entered twice
    check(caught, StateError, "loop-entered-twice", "entered twice", "run.loop(…) again")


def test_loop_inside_a_loop():
    """A loop of the same run inside another is refused at its for, with the way out."""
    run = make()
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            for _ in run.loop(loader(), epochs=1):  # <- inner loop
                pass
    check(caught, UsageError, "loop-inside-a-loop", "inner loop", "a second lw.Run")


def test_another_run_inside_a_loop():
    """A loop of another run may run inside a loop."""
    outer, inner = make(), make()
    for step in outer.loop(loader(), steps=2):
        turn(outer, step)
        for other in inner.loop(loader(), steps=2):
            turn(inner, other)
    assert inner.totals["turns"] == 4
    assert outer.totals["turns"] == 2


def test_closed_run():
    """A closed run makes no loop, no evaluation, and does not begin one that was made before."""
    run = make()
    before = run.loop(loader(), epochs=1)
    run.close()
    for use in (
        lambda: run.loop(loader(), epochs=1),
        lambda: run.evaluate(loader()),
        lambda: next(iter(before)),
    ):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.slug == "run-closed"


def test_loop_name_taken():
    """Two loops of one run have different names."""
    run = make()
    run.loop(loader(), epochs=1, name="warm")
    with pytest.raises(UsageError) as caught:
        run.loop(loader(), epochs=1, name="warm")
    assert caught.value.slug == "loop-name-taken"


def test_foreign_optimizer():
    """step.only and step.minimize take the run's optimizers alone, and say so at their line."""
    run = make()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            with step.only(other):  # <- foreign
                pass
    check(caught, UsageError, "unknown-optimizer", "foreign", "run.optimizer")


@pytest.mark.parametrize("value", ["text", None, torch.ones(3)])
def test_log_of_no_number(value):
    """step.log takes one number and says at the user's line what it got."""
    run = make()
    with pytest.raises(StateError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.log(value=value)  # <- log
    check(caught, StateError, "log-not-a-number", "log")


def test_keep_best_of_nothing():
    """keep_best of a value that was not logged names the line that logs it."""
    run = make()
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            turn(run, step)
            run.keep_best("accuracy")  # <- best of nothing
    check(caught, UsageError, "unknown-value", "best of nothing", "step.log(accuracy=…)")


def test_errors_of_the_body_are_untouched():
    """An exception of the user's own code keeps its type and its message."""
    run = make()
    with pytest.raises(ZeroDivisionError, match="division"):
        for _step in run.loop(loader(), epochs=1):
            1 / 0  # noqa: B018


def test_dataset_error_keeps_its_type():
    """An exception raised in the data set comes out as it is."""

    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            raise LookupError(f"sample {i} is missing")

    run = make()
    with pytest.raises(LookupError, match="sample 0 is missing"):
        for _step in run.loop(Broken(), epochs=1, batch_size=2):
            pass
    assert run.outcome.kind == "failed"


def test_run_goes_on_after_a_mistake():
    """After an error the same run can begin another loop: nothing pending is left behind."""
    run = make()
    with pytest.raises(StateError):
        for step in run.loop(loader(), epochs=1):
            step.backward(loss_of(run, step))
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
    assert run.outcome.kind == "finished"


def test_empty_loader_is_a_data_error():
    """A loader without batches is refused when the loop is made."""
    with pytest.raises(DataError) as caught:
        make().loop([], epochs=1)
    assert caught.value.slug == "empty-loader"


def test_gradients_from_before_the_loop_do_not_count():
    """What a backward before the loop left in the gradients does not reach the first update."""
    fresh, used = make(), make()
    used.model(torch.ones(1, 3)).sum().backward()
    for run in (fresh, used):
        for step in run.loop(loader(), steps=2):
            turn(run, step)
    assert torch.equal(fresh.model.weight, used.model.weight)


def test_gradients_of_a_failed_loop_do_not_count():
    """What a failed loop left pending does not reach the next loop's first update."""
    fresh, used = make(), make()
    with pytest.raises(ZeroDivisionError):
        for step in used.loop(loader(), steps=2):
            step.backward(loss_of(used, step))
            1 / 0  # noqa: B018
    for run in (fresh, used):
        for step in run.loop(loader(), steps=2):
            turn(run, step)
    assert torch.equal(fresh.model.weight, used.model.weight)


class Refusing(nn.Module):
    """Raises in its forward pass, or in its backward pass."""

    def __init__(self, where):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.where = where

    def forward(self, x):
        if self.where == "forward":
            raise ValueError("mine")
        y = self.linear(x)
        y.register_hook(self.backward_hook)
        return y

    def backward_hook(self, gradient):
        raise ValueError("mine")


@pytest.mark.parametrize(
    ("where", "body", "ours"),
    [
        ("forward", lambda run, step: loss_of(run, step), 0),
        ("backward", lambda run, step: step.backward(loss_of(run, step)), 2),
        ("forward", lambda run, step: step.minimize(lambda: loss_of(run, step)), 2),
    ],
    ids=["forward", "backward", "minimize"],
)
def test_few_frames_of_ours(where, body, ours):
    """A traceback has at most two frames of ours in a row, and ends in the user's model."""
    lbfgs = {"optimizer": torch.optim.LBFGS} if where == "forward" else {}
    run = make(model=Refusing(where), **lbfgs)
    with pytest.raises(ValueError, match="mine") as caught:
        for step in run.loop(loader(), epochs=1):
            body(run, step)
    files = [str(entry.path) for entry in caught.traceback]
    assert files[0] == files[-1] == __file__
    in_a_row = longest = 0
    for file in files:
        in_a_row = in_a_row + 1 if "/loopwright/" in file else 0
        longest = max(longest, in_a_row)
    assert longest == ours <= 2
