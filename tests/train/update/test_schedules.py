"""When a scheduler is stepped, and what is refused."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from loopwright.errors import UsageError
from loopwright.train.update.schedules import (
    on_metric,
    per_epoch,
    per_update,
    resolve,
    warmup_cosine,
)


@pytest.fixture
def sgd() -> torch.optim.SGD:
    """Return an optimizer over one number."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_none_is_no_schedule(sgd):
    """A run without a scheduler has no schedule."""
    assert resolve(None, sgd) is None


def test_wrappers_say_the_unit(sgd):
    """per_update, per_epoch and on_metric mark a scheduler without changing it."""
    step = StepLR(sgd, 1)
    plateau = ReduceLROnPlateau(sgd)
    assert resolve(per_update(step), sgd).kind == "update"
    assert resolve(per_epoch(step), sgd).scheduler is step
    schedule = resolve(on_metric(plateau, "valid_loss"), sgd)
    assert (schedule.kind, schedule.metric) == ("metric", "valid_loss")


def test_functions_make_the_scheduler(sgd):
    """A function of the optimizer is called with the run's own."""
    schedule = resolve(per_epoch(lambda optimizer: StepLR(optimizer, 2, gamma=0.1)), sgd)
    assert schedule.scheduler.optimizer is sgd
    partial = resolve(per_update(functools.partial(StepLR, step_size=3)), sgd)
    assert partial.scheduler.step_size == 3
    assert resolve(on_metric(ReduceLROnPlateau, "loss"), sgd).scheduler.optimizer is sgd


def test_functions_of_two_get_the_length(sgd):
    """A function (optimizer, total) waits for the loop's length, in the unit of its wrapper."""
    schedule = resolve(per_update(lambda optimizer, n: CosineAnnealingLR(optimizer, T_max=n)), sgd)
    assert schedule.needs_length
    assert not schedule.bound
    assert schedule.state_dict() == {}
    assert schedule.bind(sgd, updates=70, epochs=7).scheduler.T_max == 70
    epochs = per_epoch(lambda optimizer, n: CosineAnnealingLR(optimizer, T_max=n))
    assert resolve(epochs, sgd).bind(sgd, updates=70, epochs=7).scheduler.T_max == 7


def test_one_wrapper_serves_several_optimizers(sgd):
    """Resolving does not bind the wrapper itself: the next fold gets a scheduler of its own."""
    wrapper = per_epoch(lambda optimizer: StepLR(optimizer, 2))
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert resolve(wrapper, sgd).scheduler.optimizer is sgd
    assert resolve(wrapper, other).scheduler.optimizer is other


def test_warmups_are_per_update_or_as_wrapped(sgd):
    """A bare warm-up counts updates; per_epoch makes it count epochs."""
    schedule = resolve(warmup_cosine(0), sgd)
    assert schedule.kind == "update"
    assert schedule.bind(sgd, updates=50).scheduler.total == 50
    schedule = resolve(per_epoch(warmup_cosine(0)), sgd)
    assert schedule.bind(sgd, updates=50, epochs=5).scheduler.total == 5
    made = resolve(per_update(lambda optimizer, total: warmup_cosine(0)), sgd)
    assert made.bind(sgd, updates=9).scheduler.total == 9


def test_an_unknown_length_is_said(sgd):
    """A schedule that its length shapes cannot be bound to a loop without one."""
    with pytest.raises(UsageError, match="number of updates is not known") as caught:
        resolve(warmup_cosine(), sgd).bind(sgd)
    assert "steps=" in str(caught.value)


def test_one_cycle_counts_updates(sgd):
    """OneCycleLR needs no wrapper: it can only count updates."""
    assert resolve(OneCycleLR(sgd, 1.0, total_steps=10), sgd).kind == "update"
    function = lambda optimizer: OneCycleLR(optimizer, 1.0, total_steps=10)  # noqa: E731
    assert resolve(function, sgd).kind == "update"


@pytest.mark.parametrize(
    "make",
    [
        lambda sgd: StepLR(sgd, 1),
        lambda sgd: LambdaLR(sgd, lambda epoch: 1.0),
        lambda sgd: ChainedScheduler([ConstantLR(sgd)], optimizer=sgd),
        lambda sgd: SequentialLR(sgd, [ConstantLR(sgd), StepLR(sgd, 1)], [5]),
    ],
)
def test_a_bare_scheduler_is_refused(sgd, make):
    """A scheduler that does not say its unit is an error that names both wrappers."""
    for scheduler in (make(sgd), make):
        with pytest.raises(UsageError, match="updates or epochs") as caught:
            resolve(scheduler, sgd)
        assert "lw.per_epoch(" in caught.value.hint
        assert "lw.per_update(" in caught.value.hint


def test_a_bare_function_of_two_is_refused(sgd):
    """A function that wants the length has to say in which unit."""
    with pytest.raises(UsageError, match="updates or epochs"):
        resolve(lambda optimizer, total: StepLR(optimizer, step_size=total), sgd)


def test_a_bare_plateau_scheduler_names_on_metric(sgd):
    """ReduceLROnPlateau without a metric's name says how to give one."""
    for scheduler in (ReduceLROnPlateau(sgd), ReduceLROnPlateau):
        with pytest.raises(UsageError, match="looks at a metric") as caught:
            resolve(scheduler, sgd)
        assert "lw.on_metric(" in caught.value.hint
        assert "step.update(metric=" in caught.value.hint


def test_wrappers_that_do_not_fit(sgd):
    """Plateau per epoch, a metric for StepLR, a wrapper in a wrapper: errors at construction."""
    with pytest.raises(UsageError, match="per_epoch has none to give"):
        per_epoch(ReduceLROnPlateau(sgd))
    with pytest.raises(UsageError, match="for an epoch"):
        on_metric(StepLR(sgd, 1), "valid_loss")
    with pytest.raises(UsageError, match="for an epoch"):
        resolve(on_metric(lambda optimizer: StepLR(optimizer, 1), "valid_loss"), sgd)
    with pytest.raises(UsageError, match="already lw"):
        per_update(per_epoch(StepLR(sgd, 1)))
    with pytest.raises(UsageError, match="looks at no metric"):
        on_metric(warmup_cosine(), "valid_loss")
    with pytest.raises(UsageError, match="step_size"):
        per_epoch(StepLR)


def test_what_is_no_scheduler(sgd):
    """Numbers, and functions that return nothing, are said to be no scheduler."""
    with pytest.raises(UsageError, match=r"scheduler is 0\.1"):
        resolve(0.1, sgd)
    with pytest.raises(UsageError, match=r"lw\.per_update got 3"):
        per_update(3)
    with pytest.raises(UsageError, match="no scheduler"):
        resolve(per_update(lambda optimizer: None), sgd)


def test_a_function_may_return_a_wrapped_scheduler(sgd):
    """The unit can be said inside the function."""
    assert resolve(lambda optimizer: per_epoch(StepLR(optimizer, 1)), sgd).kind == "epoch"


def test_another_optimizers_scheduler_is_refused(sgd):
    """A scheduler over an optimizer that is not the run's would change nothing."""
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UsageError, match="another optimizer"):
        resolve(per_epoch(StepLR(other, 1)), sgd)


def test_step_hands_on_the_metric(sgd):
    """A plateau scheduler gets the metric, per update or on a metric, and needs it."""
    schedule = resolve(on_metric(ReduceLROnPlateau(sgd, patience=0, factor=0.5), "loss"), sgd)
    for value in (1.0, 2.0):
        schedule.step(value)
    assert sgd.param_groups[0]["lr"] == 0.5
    with pytest.raises(UsageError, match="none was given"):
        schedule.step()
    with pytest.raises(UsageError, match="none was given"):
        resolve(per_update(ReduceLROnPlateau(sgd)), sgd).step()


def test_state_round_trip(sgd):
    """The schedule's state is its scheduler's."""
    schedule = resolve(per_update(StepLR(sgd, 2, gamma=0.1)), sgd)
    for _ in range(3):
        sgd.step()
        schedule.step()
    other = resolve(per_update(StepLR(sgd, 2, gamma=0.1)), sgd)
    other.load_state_dict(schedule.state_dict())
    assert other.scheduler.last_epoch == 3
