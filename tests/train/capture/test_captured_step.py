"""A captured step gives the bits of the step as it stands, or says why it is not captured."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
from capturable import MODELS, OPTIMIZERS, SETTINGS, numbers
from small import dataset, loader, make, weights
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import NonFiniteError
from loopwright.train.capture import step as captured


@pytest.fixture(autouse=True)
def _one_thread():
    """Two thread counts give different bits."""
    assert torch.get_num_threads() == 1


def run_it(model="perceptron", optimizer="adamw", *, capture, epochs=5, batch_size=8, **settings):
    """Train with or without capture; returns the step (None without) and all that must be equal."""
    lw.seed(0)
    build, data, criterion = MODELS[model] if isinstance(model, str) else model
    net = build()
    given = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    given = given(net.parameters()) if callable(given) else given
    if settings.get("scheduler") == "per epoch":
        settings["scheduler"] = lw.per_epoch(torch.optim.lr_scheduler.StepLR(given, 1, 0.5))
    run = make(model=net, optimizer=given, **settings)
    train = run.compile_step(lambda batch: criterion(run.model(batch[0]), batch[1]))
    losses, valid = [], []
    for step in run.loop(DataLoader(data(), batch_size=batch_size, shuffle=True), epochs=epochs):
        losses.append((train if capture else train.as_it_stands)(step))
        if step.ends_epoch:
            with torch.no_grad():
                valid += [
                    criterion(run.model(x), y) for x, y in run.evaluate(DataLoader(data(), 8))
                ]
    everything = [
        *(t.detach().clone() for t in net.state_dict().values()), *losses, *valid, torch.rand(2),
        *(v for s in run.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)),
        torch.tensor(run.history.series["loss"].y), torch.tensor(run.history.series["lr"].y),
        torch.tensor(run.history.series["grad_norm"].y),
    ]  # fmt: skip
    return train, everything, run


def same(one, other):
    """Whether two lists of tensors have the same bits."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param(
            *one, marks=() if one[0] == "perceptron" or one[1] == "adamw" else pytest.mark.long
        )
        for one in product(MODELS, OPTIMIZERS)
    ],
)
def test_same_bits(model, optimizer):
    """Weights, buffers, losses, norms, the optimizer's state and the next draws are those without capture."""
    _, expected, _ = run_it(model, optimizer, capture=False)
    train, got, run = run_it(model, optimizer, capture=True)
    assert train.why_not is None
    assert train.replayed >= 10
    assert same(got, expected)
    assert run.totals["updates"] == 25


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_same_bits_with_settings(optimizer, setting):
    """Clipping, schedules, averages and bf16 are part of what is replayed, or done beside it."""
    _, expected, plain = run_it("perceptron", optimizer, capture=False, **SETTINGS[setting])
    train, got, run = run_it("perceptron", optimizer, capture=True, **SETTINGS[setting])
    assert train.why_not is None
    assert train.replayed >= 10
    assert same(got, expected)
    assert run.totals == plain.totals


@pytest.mark.parametrize("setting", ["clip", "clip values"])
def test_shared_gradients_are_clipped_once(setting):
    """Two parameters with one gradient: what writes to the one leaves the other."""
    _, expected, _ = run_it("shared", "sgd", capture=False, **SETTINGS[setting])
    train, got, _ = run_it("shared", "sgd", capture=True, **SETTINGS[setting])
    assert train.why_not is None
    assert same(got, expected)


def test_two_shapes():
    """A last batch of another size has graphs of its own."""
    _, expected, _ = run_it(capture=False, batch_size=12, epochs=9)
    train, got, _ = run_it(capture=True, batch_size=12, epochs=9)
    assert same(got, expected)
    assert len(train._shapes) == 2
    assert train.why_not is None


def test_more_shapes_than_are_kept(monkeypatch):
    """Further shapes are run as they stand."""
    monkeypatch.setattr(captured, "SHAPES", 1)
    _, expected, _ = run_it(capture=False, batch_size=12)
    train, got, run = run_it(capture=True, batch_size=12)
    assert same(got, expected)
    assert train.replayed > 0
    assert any("kinds of batches" in note for note in run.notes)


def test_a_mode_that_changes():
    """A part that is put into eval mode in the middle is another shape."""

    def go(capture):
        lw.seed(0)
        net = MODELS["batch norm"][0]()
        run = make(model=net, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
        train = run.compile_step(lambda b: F.cross_entropy(run.model(b[0]), b[1]))
        for step in run.loop(DataLoader(numbers(1, 8, 8, classes=3), batch_size=8), epochs=6):
            if step.index == 14:
                net[1].eval()
            (train if capture else train.as_it_stands)(step)
        return train, [t.clone() for t in net.state_dict().values()]

    _, expected = go(False)
    train, got = go(True)
    assert train.why_not is None
    assert same(got, expected)


def test_a_weight_beside_the_loss():
    """fn may return the loss's weight too, a number or a tensor that it computes."""
    for weigh in (lambda b: 3, lambda b: (b[1] > 0).sum()):

        def go(capture, weigh=weigh):
            lw.seed(0)
            run = make()
            train = run.compile_step(lambda b: (F.mse_loss(run.model(b[0]), b[1]), weigh(b)))
            for step in run.loop(loader(), epochs=4):
                (train if capture else train.as_it_stands)(step)
            return train, [p.detach().clone() for p in run.model.parameters()], run

        _, expected, plain = go(False)
        train, got, run = go(True)
        assert train.why_not is None
        assert same(got, expected)
        assert [r.values for r in run.history.epochs] == [r.values for r in plain.history.epochs]


# -- what is not captured, and what is found out -----------------------------------------------------


def refused(fn, **settings):
    """The reason why a step is not captured; the training is that without capture all the same."""

    def go(capture):
        lw.seed(0)
        run = make(**settings)
        train = run.compile_step(lambda batch: fn(run, batch))
        for step in run.loop(loader(), epochs=4):
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for m in run.models.values() for p in m.parameters()], run

    _, expected, _ = go(False)
    train, got, run = go(True)
    assert same(got, expected)
    assert train.why_not is not None
    assert any(train.why_not in note for note in run.notes)
    return train.why_not


def test_a_value_that_is_read():
    """A branch on a value cannot be replayed; the line is named."""

    def fn(run, batch):
        loss = F.mse_loss(run.model(batch[0]), batch[1])
        return loss * 2 if loss.item() > 1e9 else loss

    why = refused(fn)
    assert "the host looks at a value" in why
    assert "test_captured_step.py" in why


def test_a_size_that_depends_on_values():
    """A boolean mask makes a result of another size each time."""

    def fn(run, batch):
        x, y = batch
        keep = y[:, 0] > -9
        return F.mse_loss(run.model(x[keep]), y[keep])

    assert "the host looks at a value" in refused(fn)


def test_python_that_changes_its_mind():
    """What Python decides otherwise after the recording is found by running both ways."""
    calls = [0]

    def fn(run, batch):
        calls[0] += 1
        return F.mse_loss(run.model(batch[0]), batch[1]) * (1.0 if calls[0] < 4 else 2.0)

    def go(capture):
        calls[0] = 0
        lw.seed(0)
        run = make()
        train = run.compile_step(lambda batch: fn(run, batch))
        for step in run.loop(loader(), epochs=2):
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in run.model.parameters()]

    _, expected = go(False)
    train, got = go(True)
    assert "a replayed step is not the step as it stands" in train.why_not
    assert same(got, expected)


def test_python_that_changes_its_mind_late():
    """Later changes are found when it is compared again, and it is said after how many turns."""
    scale = [1.0]
    run = make()
    train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]) * scale[0])
    for step in run.loop(loader(), epochs=20):
        if step.index == 14:
            scale[0] = 2.0
        train(step)
    assert "replayed turns)" in train.why_not


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"accumulate": 2}, "accumulate is above 1"),
        ({"precision": "fp16"}, "fp16's scale"),
        ({"compile": {"backend": "eager"}}, "the model is compiled"),
    ],
)
def test_settings_without_capture(settings, why):
    """What a captured step cannot do is known beforehand."""
    assert why in refused(lambda run, b: F.mse_loss(run.model(b[0]), b[1]), **settings)


@pytest.mark.parametrize(
    "look",
    [
        lambda y: len(torch.unique(y)), lambda y: len(torch.bincount(y)), lambda y: len(set(y.tolist())),
        lambda y: int(y.numpy().max()), lambda y: int(np.asarray(y).max()),
    ],
    ids=["unique", "bincount", "tolist", "numpy", "asarray"],
)  # fmt: skip
def test_the_host_looks(look):
    """What Python makes of a batch's values may be another thing at the next batch."""
    loss = nn.CrossEntropyLoss()
    data = numbers(6, classes=4)
    run = make(model=nn.Linear(6, 4))
    train = run.compile_step(lambda b: loss(run.model(b[0]), b[1]) * look(b[1]))
    for step in run.loop(DataLoader(data, batch_size=8), epochs=1):
        train(step)
    assert "the host looks at a value" in train.why_not


def test_a_batch_that_is_written_to():
    """A turn that is made twice, to be compared, would write to it twice."""

    def go(capture):
        lw.seed(0)
        run = make()
        train = run.compile_step(lambda b: F.mse_loss(run.model(b[0].sub_(0.5).mul_(1.1)), b[1]))
        for step in run.loop(loader(), epochs=2):
            (train if capture else train.as_it_stands)(step)
        return train, weights(run)

    _, expected = go(False)
    train, got = go(True)
    assert "writes to the batch" in train.why_not
    assert same(got, expected)


def test_rates_that_part():
    """Two groups have the same rate when the step is recorded, and another one each later."""

    def go(capture):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        optimizer = torch.optim.AdamW([{"params": part.parameters()} for part in net], lr=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda i: 0.99**i, lambda i: 0.99**i * (1 if i < 20 else 0.3)]
        )
        run = make(model=net, optimizer=optimizer, scheduler=lw.per_update(schedule))
        train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
        for step in run.loop(loader(96), epochs=2):
            (train if capture else train.as_it_stands)(step)
        return train, weights(run)

    _, expected = go(False)
    train, got = go(True)
    assert train.why_not is None
    assert train.replayed > 30
    assert same(got, expected)


def test_an_optimizer_with_hooks():
    """A hook of the user's would not be called."""
    run = make(optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    run.optimizer.register_step_post_hook(lambda *_: None)
    assert "hooks" in run.compile_step(lambda b: run.model(b[0]).mean()).why_not


class CountsInPython(torch.optim.Optimizer):
    """Keeps its counter as a number."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["n"] = state.get("n", 0) + 1
                p.add_(p.grad, alpha=-group["lr"] / state["n"])


def test_an_optimizer_that_counts_in_python():
    """A number that the optimizer keeps in Python would stand still."""
    why = refused(lambda run, b: F.mse_loss(run.model(b[0]), b[1]), optimizer=CountsInPython)
    assert "'n'" in why


class Oddly(torch.optim.Optimizer):
    """Uses the learning rate in a way that nobody expects."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.3})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-(group["lr"] ** 3))


def test_an_optimizer_with_other_formulas():
    """A number that is computed in a way that is not known is seen when it is recorded."""
    why = refused(lambda run, b: F.mse_loss(run.model(b[0]), b[1]), optimizer=Oddly)
    assert "computes a number" in why


def test_an_optimizer_that_begins_otherwise():
    """RAdam has no factor for its first five updates: that it will have one is seen beforehand."""
    for foreach in (True, False):
        given = lambda p, foreach=foreach: torch.optim.RAdam(p, lr=0.01, foreach=foreach)  # noqa: E731
        _, expected, _ = run_it(optimizer=given, capture=False, epochs=2)
        train, got, _ = run_it(optimizer=given, capture=True, epochs=2)
        assert train.replayed == train.proven == 0
        assert same(got, expected)


def test_bf16_attention():
    """What is recorded runs without autocast, as backward and update do."""
    settings = {"precision": "bf16", "clip": 0.1}
    _, expected, _ = run_it("attention", "adamw", capture=False, **settings)
    train, got, _ = run_it("attention", "adamw", capture=True, **settings)
    assert train.why_not is None
    assert same(got, expected)


def test_an_option_that_is_changed():
    """Another momentum in the middle ends the capture before it could matter."""

    def go(capture):
        lw.seed(0)
        run = make(optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
        train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
        for step in run.loop(loader(), epochs=4):
            if step.index == 13:
                run.optimizer.param_groups[0]["momentum"] = 0.5
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in run.model.parameters()]

    _, expected = go(False)
    train, got = go(True)
    assert train.why_not == "an option of the optimizer was changed"
    assert same(got, expected)


def test_a_state_that_is_loaded():
    """Loading the optimizer's state makes new tensors in the place of those that were recorded."""

    def go(capture):
        lw.seed(0)
        run = make(optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
        train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
        for step in run.loop(loader(), epochs=6):
            if step.index == 3:
                state = copy.deepcopy(run.optimizer.state_dict())
            if step.index == 21:
                run.optimizer.load_state_dict(state)
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in run.model.parameters()]

    _, expected = go(False)
    train, got = go(True)
    assert train.why_not is None
    assert train.replayed > 10
    assert same(got, expected)


# -- beside the graph -------------------------------------------------------------------------------


def bad_data():
    """Six batches of four with a nan in the sixth, four times over."""
    x, y = (t.clone() for t in dataset(24).tensors)
    x[21] = float("nan")
    return DataLoader(TensorDataset(x, y), batch_size=4)


def test_nan_in_a_replayed_turn():
    """A loss that is not finite stops as it does without capture, with module and samples."""
    run = make(model=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)))
    train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(), epochs=3):
            if step.index == 12:
                step.batch[0][1] = float("nan")
            train(step)
    assert "turn 13" in caught.value.what
    assert "sample 1 of the data set" in caught.value.what


def test_nan_that_is_skipped():
    """With nonfinite="skip" the captured run is the run without capture."""

    def go(capture):
        lw.seed(0)
        run = make(nonfinite="skip")
        train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
        for step in run.loop(bad_data(), epochs=5):
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in run.model.parameters()], run

    _, expected, plain = go(False)
    train, got, run = go(True)
    assert train.replayed > 5
    assert same(got, expected)
    assert run.totals["nonfinite_skipped"] == plain.totals["nonfinite_skipped"] == 5


def test_killed_and_gone_on(tmp_path):
    """A captured run that is left and gone on with ends with the bits of one that was not."""
    policy = lw.Checkpoint(every_steps=1)

    def go(out, stop=None, capture=True):
        run = make(out, optimizer=OPTIMIZERS["adamw"], checkpoint=policy,
                   model=MODELS["perceptron"][0](), scheduler=lw.warmup_cosine())  # fmt: skip
        train = run.compile_step(lambda b: F.cross_entropy(run.model(b[0]), b[1]))
        data = DataLoader(numbers(6, classes=4), batch_size=8, shuffle=True)
        for step in run.loop(data, epochs=5):
            if step.index == stop:
                raise KeyError
            (train if capture else train.as_it_stands)(step)
        run.close()
        return train, [p.detach().clone() for p in run.model.parameters()]

    lw.seed(0)
    _, expected = go(None, capture=False)
    lw.seed(0)
    with pytest.raises(KeyError):
        go(tmp_path / "run", stop=17)
    lw.seed(9)
    train, got = go(tmp_path / "run")
    assert train.why_not is None
    assert same(got, expected)


def test_moments_are_told():
    """Who listens to updates hears of each."""
    run = make()
    heard = []
    run.on("update", lambda event: heard.append(event.step.index))
    train = run.compile_step(lambda b: F.mse_loss(run.model(b[0]), b[1]))
    for step in run.loop(loader(), epochs=3):
        train(step)
    assert heard == list(range(18))
    assert train.replayed > 5


def test_layers_that_are_thawed():
    """What begins to learn in the middle of an epoch is recorded anew, and learns."""

    def trained(capture):
        lw.seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        net[0].requires_grad_(False)
        run = make(model=net, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
        train = run.compile_step(lambda batch: F.mse_loss(run.model(batch[0]), batch[1]))
        for step in run.loop(loader(160, 4), epochs=1):
            if step.index == 20:
                net[0].requires_grad_(True)
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in net.parameters()]

    train, ours = trained(True)
    _, plain = trained(False)
    assert train.why_not is None
    assert train.replayed > 20
    assert same(ours, plain)


def test_a_factor_that_changes_late():
    """What a program changes at an epoch's beginning is found there, however late it is."""

    def trained(capture):
        lw.seed(0)
        factor = [1.0]
        run = make()
        train = run.compile_step(
            lambda batch: factor[0] * F.mse_loss(run.model(batch[0]), batch[1])
        )
        for step in run.loop(loader(26, 4), epochs=12):
            factor[0] = 1.0 if step.epoch < 9 else 2.0
            (train if capture else train.as_it_stands)(step)
        return train, [p.detach().clone() for p in run.model.parameters()]

    train, ours = trained(True)
    _, plain = trained(False)
    assert "is not the step as it stands" in train.why_not
    assert same(ours, plain)
