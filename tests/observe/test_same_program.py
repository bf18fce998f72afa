"""Observing changes nothing: losses, weights, generators, pickles, exceptions, and what torch is made of."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import pickle
import sys
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from loopwright.checker.session import Session
from loopwright.observe import points
from loopwright.observe.modules import Places
from loopwright.observe.swap import plain_function
from loopwright.observe.watch import Observer
from observe.training import TRAININGS, everything, plain


def equal(first, second):
    """The same, bit by bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def observed(train):
    """What a training leaves when it is observed."""
    session = Session()
    session.start()
    try:
        left = everything(train)
    finally:
        session.end()
    assert session.observer.failure is None, session.observer.failure
    assert session.notes == []
    return left, session


@pytest.mark.parametrize("train", TRAININGS, ids=lambda train: train.__name__)
def test_same_numbers(train):
    """An observed training has the same losses, weights, generator states and pickles."""
    before = everything(train)
    left, session = observed(train)
    assert sum(session.observer.counts.values()) > 0
    assert {name for name in before if not equal(before[name], left[name])} == set()


def test_the_comparison_sees_a_difference():
    """Control: one more random number is noticed."""

    def other():
        torch.rand(1)
        return plain()

    first, second = everything(plain), everything(other)
    assert not equal(first["torch"], second["torch"])
    assert not equal(first["losses"], second["losses"])


def snapshot():
    """Everything in torch that a hook could hide in."""
    found = {}
    schedules, loaders = torch.optim.lr_scheduler, torch.utils.data.dataloader
    classes = [torch.Tensor, nn.Module, torch.optim.Optimizer, schedules.LRScheduler,
               torch.amp.GradScaler, loaders.DataLoader, nn.parallel.DistributedDataParallel,
               loaders._BaseDataLoaderIter, schedules.ReduceLROnPlateau]  # fmt: skip
    for owner in [*classes, F, torch, torch.autograd, nn.utils, torch.distributed, builtins]:
        for name, value in vars(owner).items():
            code = None
            if callable(value) and not isinstance(value, type):
                try:
                    code = plain_function(value).__code__
                except (TypeError, ValueError):
                    code = None
            found[owner.__name__, name] = (id(value), id(code))
    found["sys", "meta_path"] = tuple(map(id, sys.meta_path))
    hooks = sys.modules["torch.optim.optimizer"]
    found["hooks"] = (
        tuple(hooks._global_optimizer_pre_hooks),
        tuple(hooks._global_optimizer_post_hooks),
    )
    return found


def test_everything_is_put_back():
    """After uninstalling, every attribute and every function's code is the very object it was."""
    before = snapshot()
    session = Session()
    session.start()
    changed = {key for key, value in snapshot().items() if before.get(key) != value}
    assert len(changed) > 40  # control: the snapshot sees hooks
    session.end()
    assert snapshot() == before


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_functions_keep_their_identity():
    """While observed, functions are the same objects, with the same signature, and pickle by name."""
    before = (F.cross_entropy, inspect.signature(F.cross_entropy), pickle.dumps(F.cross_entropy))
    session = Session()
    session.start()
    try:
        during = (
            F.cross_entropy,
            inspect.signature(F.cross_entropy),
            pickle.dumps(F.cross_entropy),
        )
        scripted = torch.jit.script(nn.CrossEntropyLoss())
    finally:
        session.end()
    assert during[0] is before[0]
    assert during[1:] == before[1:]
    assert scripted(torch.zeros(2, 3), torch.tensor([0, 1])).item() == pytest.approx(
        1.0986, abs=1e-4
    )


def warned(shown):
    """Three warnings of torch: what is shown, with file and line."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown.clear()
        F.mse_loss(torch.zeros(2, 1), torch.zeros(2))
        nn.MSELoss()(torch.zeros(2, 1), torch.zeros(2))
        scheduler.step()
    return list(shown)


def test_warnings_name_the_same_lines(monkeypatch):
    """A warning that torch places at its caller stands at the program's line, not at a hook."""
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *words: shown.append(words[1:4]))
    before = warned(shown)
    set_by_test = warnings.showwarning
    session = Session()
    session.start()
    try:
        during = warned(shown)
    finally:
        session.end()
    assert during == before
    # control: of three, some stand here, and some in torch's own file (which, depends on the torch)
    assert {one[1] == __file__ for one in before} == {True, False}
    assert len(before) == 3
    assert warnings.showwarning is set_by_test


def test_exceptions_pass():
    """An exception inside an observed call reaches the program as it is."""
    session = Session()
    session.start()
    try:
        with pytest.raises(IndexError, match="out of bounds"):
            F.cross_entropy(torch.zeros(1, 2, requires_grad=True), torch.tensor([7]))
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.zeros(1).backward()
    finally:
        session.end()
    assert session.observer.failure is None


def test_a_failing_listener_switches_itself_off(capsys):
    """Whatever a listener raises, the program goes on, the hooks are out, and one line says so."""

    class Broken:
        def after_backward(self, event):
            raise KeyError("mine")

    before = snapshot()
    observer = Observer([Broken()])
    observer.install()
    p = torch.ones(1, requires_grad=True)
    (p * 2).sum().backward()
    assert p.grad.item() == 2
    assert snapshot() == before
    assert "KeyError: 'mine'" in observer.failure
    assert "switched itself off" in capsys.readouterr().err


def test_two_observers_are_refused():
    """Hooks of two observers would see each other."""
    first = Observer([])
    first.install()
    with pytest.raises(RuntimeError, match="observed already"):
        Observer([]).install()
    first.uninstall()


def test_steps_takes_everything_out():
    """``steps=4`` leaves after the fourth step of the optimizer, in the middle of the training."""
    plain()  # the first training of a process makes torch import more of itself
    before = snapshot()
    session = Session(steps=4)
    session.start()
    plain()
    assert snapshot() == before
    assert session.accounts.optimizers.total_steps == 4
    assert session.end() == []


def test_transforms_do_not_tire_the_observer():
    """Modules without weights, which a data set calls for every sample, are no ticks; a model's calls are."""
    session = Session()
    session.start()
    try:
        transform, model = nn.Flatten(), nn.Linear(2, 1)
        for _ in range(50):
            transform(torch.ones(1, 2))
        assert session.observer.ticks == 0
        for _ in range(50):
            model(torch.ones(1, 2))
        assert session.observer.ticks == 50
    finally:
        session.end()


@pytest.mark.parametrize("resting", [False, True])
def test_many_layers_do_not_keep_the_observer_awake(resting):
    """A forward is one tick however many layers it has, at rest (without gradients) too, or failed."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(24)))
    session = Session()
    session.start()
    try:
        session.observer.resting, session.observer._turn_at = resting, 10_000
        session.observer.evaluations = 8  # the next one that opens its eyes is the sixteenth
        for width in (2, 3, 2, 2):
            # a width of 3 does not fit
            with contextlib.suppress(RuntimeError), torch.set_grad_enabled(not resting):
                model(torch.ones(1, width))
        assert session.observer.ticks == 4
        assert session.observer.counts.get("forward", 0) == (0 if resting else 4)
    finally:
        session.end()


def asleep(observer):
    """Put the observer to sleep, as its next tick would."""
    observer._turn_at = observer.ticks + 1
    observer.tick()
    return observer.resting


def test_forwards_at_rest():
    """With gradients all go straight; without, known inner modules do. Training ticks by its backward."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    session = Session()
    session.start()
    try:
        observer = session.observer
        model(torch.ones(1, 2))
        assert asleep(observer)
        observer._turn_at = 10_000
        observer.wake = lambda: None
        before = observer.ticks
        output = model(torch.ones(1, 2))
        assert observer.ticks == before
        output.backward()
        assert observer.ticks == before + 1
        with torch.no_grad():
            model(torch.ones(1, 2))
            assert observer.ticks == before + 2
            model[0](torch.ones(1, 2))
            assert observer.ticks == before + 2
            nn.Linear(2, 1)(torch.ones(1, 2))
            assert observer.ticks == before + 3
        del observer.wake
        observer.wake()
        observer._turn_at = 10_000
        model[0](torch.ones(1, 2))
        assert asleep(observer)
        observer._turn_at = 10_000
        with torch.no_grad():
            model[0](torch.ones(1, 2))
        assert observer.ticks == before + 6  # seen as the outermost, it is one from now on
    finally:
        session.end()
    assert session.observer.failure is None


class Forwards:
    """The modules of the events that it hears."""

    def __init__(self):
        self.heard = []

    def before_forward(self, event):
        """One more."""
        self.heard.append(event.subject)

    def after_backward(self, event):
        """So that backward is hooked."""


@pytest.mark.parametrize("gradients", [True, False])
def test_woken_in_the_middle_of_a_forward(gradients):
    """The inner calls of a forward that began unseen are no outermost ones; the next forward is one."""

    class Wakes(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            observer.wake()
            return self[1](x)

    forwards = Forwards()
    observer = Observer([forwards])
    model = Wakes(nn.Linear(1, 1), nn.Linear(1, 1))
    observer.install()
    try:
        assert asleep(observer)
        observer.evaluations = 2  # the third one is let through
        with torch.set_grad_enabled(gradients):
            nn.Sequential(model)(torch.ones(1, 1))
        assert not observer.resting
        assert forwards.heard == []
        model(torch.ones(1, 1))
        assert forwards.heard == [model]
    finally:
        observer.uninstall()
    assert observer.failure is None


def test_a_part_without_gradients_is_no_evaluation():
    """At rest a forward that runs a part of itself without gradients, never seen before, wakes nobody."""

    class Frozen(nn.Sequential):
        def forward(self, x):
            with torch.no_grad():
                x = self[0](x)
            return self[1](x)

    forwards = Forwards()
    observer = Observer([forwards])
    model = Frozen(nn.Linear(1, 1), nn.Linear(1, 1))
    observer.install()
    try:
        assert asleep(observer)
        before = observer.ticks
        model(torch.ones(1, 1))
        assert (observer.ticks, observer.evaluations) == (before, 0)
        assert observer.resting
        with torch.no_grad():
            model(torch.ones(1, 1))
        assert observer.evaluations == 1
        assert forwards.heard == [model]
    finally:
        observer.uninstall()
    assert observer.failure is None


def test_modules_that_died_are_forgotten():
    """What is known of a module goes with it: another one may come to stand at its address."""
    places = Places()
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    places.called_inside(first)
    places.called_inside(second)
    places.called_outside(second)
    assert places.inside == {id(first)}
    del first, second
    assert [*places.inside, *places._outside, *places._refs] == []


def test_no_sleep_in_the_middle_of_a_forward():
    """Where a forward computes gradients itself, the observer stays awake until its inner calls are told."""
    inner = []

    class Learns(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)

        def forward(self, x):
            observer._turn_at = 1
            gradient = torch.autograd.grad(self.first(x).sum(), self.first.weight)[0]
            return self.second(x) + gradient

    class Listens:
        def before_forward(self, event):
            observer.here.inner = []

        def after_forward(self, event):
            inner.extend(type(call.module).__name__ for call in observer.here.inner)

        def after_grad(self, event):
            pass

    model = Learns()
    observer = Observer([Listens()])
    observer.passes = 1  # what follows the very first pass is seen anyway
    observer.install()
    try:
        model(torch.ones(1, 1))
        assert inner == ["Linear", "Linear"]
        assert not observer.resting
        observer.tick()
        assert observer.resting
    finally:
        observer.uninstall()


def test_windows_thin_out():
    """Rests become longer as a program goes on, and none is longer than an eighth of what has passed."""
    observer = Observer([])
    turns = [(0, False)]
    for _ in range(400_000):
        observer.tick()
        if observer.resting != turns[-1][1]:
            turns.append((observer.ticks, observer.resting))
    rests = [(at, until - at) for (at, resting), (until, _) in pairwise(turns) if resting]
    windows = [until - at for (at, resting), (until, _) in pairwise(turns) if not resting]
    assert windows[0] == 2000
    assert set(windows[1:]) == {100}
    assert {length for at, length in rests if at < 15_000} == {1948}
    assert all(length <= max(1948, at / 8) for at, length in rests)
    late = [length for at, length in rests if at > 200_000]
    assert min(late) > 20_000


def test_methods_are_plain_at_rest():
    """An optimizer calls ``add_`` for each parameter: while nobody listens there is no hook on it."""
    names = ("item", "add_", "mul_", "copy_", "lerp_")
    session = Session()
    session.start()
    try:
        observer = session.observer
        hooked = [name in vars(torch.Tensor) for name in names]
        assert asleep(observer)
        resting = [name in vars(torch.Tensor) for name in names]
        observer.wake()
        awake = [name in vars(torch.Tensor) for name in names]
        assert (hooked, resting, awake) == ([True] * 5, [False] * 5, [True] * 5)
        assert asleep(observer)
    finally:
        session.end()
    assert not any(name in vars(torch.Tensor) for name in names)


def test_third_party_names_are_seen():
    """A name imported before the observation began is observed too."""
    from torch.nn.functional import cross_entropy

    seen = []

    class Listens:
        def after_loss(self, event):
            seen.append(event.subject)

    observer = Observer([Listens()])
    observer.install()
    cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]))
    nn.MSELoss()(torch.zeros(2), torch.zeros(2))
    observer.uninstall()
    assert seen == ["cross_entropy", "mse_loss"]


def test_only_what_is_listened_to_is_touched():
    """A listener for losses leaves modules, optimizers and tensors alone."""

    class Listens:
        def after_loss(self, event):
            pass

    before = snapshot()
    observer = Observer([Listens()])
    observer.install()
    changed = {key for key, value in snapshot().items() if before.get(key) != value}
    observer.uninstall()
    names = {name for owner, name in changed if owner == "torch.nn.functional"}
    assert names == set(points.LOSSES)
    assert {owner for owner, _ in changed} == {"torch.nn.functional", "builtins"}
