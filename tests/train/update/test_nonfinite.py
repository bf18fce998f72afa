"""Losses and gradients that are nan or inf: never stepped on, named, left out or gone back from."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import pytest
import torch
from small import equal, loader, make, network, train, turn, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw
from loopwright.errors import NonFiniteError, UsageError
from loopwright.train.update.recall import is_finite

EVERY = lw.Checkpoint(every_steps=1)


def poisoned(bad=(), samples=24, value=float("nan")):
    """The usual data with inputs that are not finite at some samples."""
    x, y = loader(samples).dataset.tensors
    x = x.clone()
    x[list(bad)] = value
    return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=False)


class Roots(nn.Module):
    """A model that overflows where its inputs are large."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.power = Power()
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.power(self.encoder(x)))


class Power(nn.Module):
    """Overflows on demand."""

    big = False

    def forward(self, x):
        return (x * 1e30).exp() if self.big else x


def fail(run, batches=None, **limits):
    """Train to the error."""
    with pytest.raises(NonFiniteError) as caught:
        train(run, batches, **limits)
    return caught.value


# -- stop -------------------------------------------------------------------------------------------


def test_stop_names_turn_samples_module_and_checkpoint(tmp_path):
    """The message says which turn, which samples, which module, and what is still good."""
    torch.manual_seed(3)  # with these weights every sample overflows
    run = make(tmp_path / "run", model=Roots(), checkpoint=EVERY)
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(shuffle=False), epochs=1):
            run.model.power.big = step.index == 3
            turn(run, step)
    lines = caught.value.what.splitlines()
    assert lines[0] in (
        "the loss of turn 4 (epoch 1) is inf; the optimizer has not stepped",
        "the loss of turn 4 (epoch 1) is nan; the optimizer has not stepped",
    )
    assert lines[1].startswith(
        "    the first is in the output of power (Power): inf, from inputs between"
    )
    assert lines[2] == "    samples of the batch: 12, 13, 14, 15"
    assert lines[3] == "    the last good checkpoint is loop-0-turn-00000003"
    assert caught.value.slug == "nonfinite-loss"
    assert "test_nonfinite.py" not in lines[0]
    assert caught.value.where.startswith("tests/train/small.py:")


def test_stop_names_the_samples_whose_inputs_are_not_finite():
    """Inputs that hold nan are named by their samples, not by the batch."""
    error = fail(make(), poisoned(bad=[9, 10]))
    assert "the model's inputs are not finite" in error.what
    assert "samples 9, 10 of the data set" in error.what
    assert "turn 3" in error.what
    assert error.what.splitlines()[1] == "    input 0 is nan in 6 of 12 values, first in sample 9"
    assert error.hint.startswith("mend the data")


def test_stop_names_weights_that_are_not_finite():
    """A module whose own weights hold nan is told from one that overflows."""
    run = make(model=Roots())
    run.model.encoder[0].weight.data[0, 0] = float("inf")
    error = fail(run)
    assert "the first is in the output of encoder.0 (Linear)" in error.what
    assert "its weight are not finite" in error.what


def test_stop_blames_the_loss_function():
    """Where every output is finite, the loss function made it."""
    run = make()
    with pytest.raises(NonFiniteError, match="every output of the model is finite"):
        for step in run.loop(loader(), epochs=1):
            x, _ = step.batch
            step.backward((run.model(x) * 0 - 1).log().mean())


def test_stop_names_operations_between_modules():
    """What a module computes between its parts is said to be computed there."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.two(self.one(x) / 0.0)

    error = fail(make(model=Between()))
    assert "the first is in the inputs of two (Linear)" in error.what
    assert "computed in Between" in error.what


def test_a_replay_that_differs_says_so():
    """A model that answers otherwise when it is asked again can't be blamed on a module."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(3, 1), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x) / (0.0 if self.calls == 3 else 1.0)

    run = make(model=Counts())
    error = fail(run)
    assert "gives something else, so no module can be named" in error.what


def test_a_replay_leaves_no_trace():
    """Generators, buffers, modes and gradients are as they were before the replay."""
    run = make(model=Roots())
    for step in run.loop(loader(), epochs=1):
        if step.index < 2:
            turn(run, step)
            continue
        run.model.power.big = True
        x, y = step.batch
        loss = nn.functional.mse_loss(run.model(x), y)
        before = [torch.get_rng_state(), *(b.clone() for b in run.model.buffers())]
        with pytest.raises(NonFiniteError):
            step.backward(loss)
        assert equal([torch.get_rng_state(), *run.model.buffers()], before)
        assert all(p.grad is None for p in run.model.parameters())
        assert all(not m._forward_hooks or m is run.model for m in run.model.modules())
        step.skip()
        break


def test_chained_models():
    """A model that gets another one's output is replayed with what that one gives again."""
    body, head = Roots(), nn.Linear(1, 1)
    run = make(
        model={"body": body, "head": head},
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
    )
    with pytest.raises(NonFiniteError, match=r"output of power \(Power\)"):
        for step in run.loop(loader(), epochs=1):
            body.power.big = step.index == 2
            x, y = step.batch
            step.backward(nn.functional.mse_loss(head(body(x)), y))
            step.update()


def test_nothing_is_saved_after_it(tmp_path):
    """No checkpoint is written for the turn that was not finite; the one before stays the newest."""
    run = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_epochs=None))
    fail(run, poisoned(bad=[9]))
    run.close()
    again = make(tmp_path / "run", checkpoint=lw.Checkpoint(every_epochs=None))
    assert train(again)[0].index == 0
    assert not (tmp_path / "run" / "final.safetensors").exists() or all(
        p.isfinite().all() for p in weights(again)
    )


def test_gradients_that_are_not_finite():
    """A finite loss with gradients that are not: named by parameter; nothing was stepped."""
    run = make()
    before = weights(run)
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(), epochs=1):
            x, _ = step.batch
            step.backward((run.model(x) * 0.0).sqrt().mean())
            step.update()
    assert caught.value.slug == "nonfinite-gradient"
    assert "weight, bias" in caught.value.what
    assert equal(weights(run), before)


# -- skip -------------------------------------------------------------------------------------------


def test_skip_is_the_loop_without_those_turns():
    """The other turns' updates are the ones that a loop without the bad turns makes, bit for bit."""
    ours = make(nonfinite="skip")
    train(ours, poisoned(bad=[5, 17]), epochs=2)
    plain = make()
    for step in plain.loop(poisoned(), epochs=2):
        if step.index % 6 not in (1, 4):
            turn(plain, step)
    assert equal(weights(ours), weights(plain))
    assert ours.totals["nonfinite_skipped"] == 4
    assert any("the update was left out" in note for note in ours.notes)


def test_skip_keeps_the_statistics_clean():
    """BatchNorm's running statistics do not keep the nan that a skipped batch has put there."""
    run = make(model=Roots(), nonfinite="skip")
    for step in run.loop(loader(), epochs=2):
        if step.index == 8:
            step.batch[0].fill_(float("nan"))
        turn(run, step)
    assert is_finite(list(run.model.buffers()))


def test_skip_gradients():
    """Gradients that are not finite are thrown away, and the optimizer's state stays as it was."""
    run = make(nonfinite="skip", optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    for step in run.loop(loader(), epochs=1):
        x, y = step.batch
        output = run.model(x)
        loss = (
            (output * 0.0).sqrt().mean() if step.index == 2 else nn.functional.mse_loss(output, y)
        )
        before = weights(run)
        step.backward(loss)
        assert step.update() is (step.index != 2)
        assert equal(weights(run), before) is (step.index == 2)
    assert next(iter(run.optimizer.state.values()))["step"] == 5


def test_skip_in_a_window():
    """Of a window with one bad micro-batch the others are stepped on, with their own weights."""
    ours = make(nonfinite="skip", accumulate=3)
    train(ours, poisoned(bad=[5]))
    plain = make(accumulate=3)
    for step in plain.loop(poisoned(), epochs=1):
        if step.index != 1:
            turn(plain, step)
    assert equal(weights(ours), weights(plain))


def test_skipping_has_an_end():
    """A run that only skips stops."""
    run = make(nonfinite="skip")
    with pytest.raises(NonFiniteError, match="as in the 50 updates before"):
        train(run, poisoned(bad=range(24)), epochs=20)


def test_skips_are_counted_over_a_resume(tmp_path):
    """The counts are part of what is saved."""
    data = poisoned(bad=[1])
    with pytest.raises(KeyError), make(tmp_path / "r", nonfinite="skip", checkpoint=EVERY) as run:
        for step in run.loop(data, epochs=2):
            turn(run, step)
            if step.index == 4:
                raise KeyError
    again = make(tmp_path / "r", nonfinite="skip", checkpoint=EVERY)
    train(again, data, epochs=2)
    assert again.totals["nonfinite_skipped"] == 2


# -- rewind -----------------------------------------------------------------------------------------


def test_rewind_goes_back_to_the_newest_checkpoint(tmp_path):
    """Weights and optimizer are the checkpoint's again, the data goes on; the report says so."""
    run = make(
        tmp_path / "run", nonfinite="rewind", checkpoint=lw.Checkpoint(every_steps=4),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
    )  # fmt: skip
    kept, seen = [], []
    for step in run.loop(poisoned(bad=[25], samples=40), epochs=1):
        seen.append(step.index)
        if step.index == 4:
            kept = weights(run)
        turn(run, step)
        if step.index == 6:
            assert equal(weights(run), kept)
            assert next(iter(run.optimizer.state.values()))["step"] == 4
    assert seen == list(range(10))
    assert run.totals["nonfinite_rewinds"] == 1
    assert any("back to checkpoint loop-0-turn-00000004" in note for note in run.notes)


def test_rewinding_has_an_end(tmp_path):
    """A run that comes to nan from one checkpoint again and again stops."""
    run = make(tmp_path / "run", nonfinite="rewind", checkpoint=lw.Checkpoint(every_epochs=None))
    error = fail(run, poisoned(bad=range(8, 24)))
    assert "4 times since checkpoint loop-0-turn-00000000" in error.what


def test_rewind_of_a_closure(tmp_path):
    """LBFGS has moved the weights when a gradient is not finite: they go back, too."""
    run = make(
        tmp_path / "run", nonfinite="rewind", checkpoint=lw.Checkpoint(every_steps=1),
        optimizer=lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4),
    )  # fmt: skip
    before = []
    for step in run.loop(poisoned(bad=[9], samples=16), epochs=1):
        x, y = step.batch
        before.append(weights(run))
        loss = step.minimize(lambda: nn.functional.mse_loss(run.model(x), y))  # noqa: B023
        assert bool(loss.isnan()) is (step.index == 2)
    assert equal(before[3], before[2])


@pytest.mark.parametrize(
    ("settings", "slug"),
    [
        ({"nonfinite": "ignore"}, "unknown-nonfinite"),
        ({"nonfinite": "rewind"}, "rewind-without-out"),
        ({"nonfinite_every": 0}, "nonfinite-every"),
        ({"nonfinite_every": True}, "nonfinite-every"),
        ({"nonfinite": "skip", "nonfinite_every": 8}, "nonfinite-every"),
    ],
)
def test_settings_that_cannot_be(settings, slug):
    """What cannot be is refused when the run is made."""
    with pytest.raises(UsageError) as caught:
        make(**settings)
    assert caught.value.slug == slug


def test_a_closure_cannot_be_skipped():
    """step.minimize() and skip do not go together, and it says so."""
    run = make(nonfinite="skip", optimizer=lambda p: torch.optim.LBFGS(p))
    with pytest.raises(UsageError) as caught:
        for step in run.loop(loader(), epochs=1):
            step.minimize(lambda: run.model(step.batch[0]).sum())  # noqa: B023
    assert caught.value.slug == "minimize-skip"


# -- as on an accelerator: values stay on the device ------------------------------------------------


def on_device(run, batches, **limits):
    """Return a loop that keeps values as tensors, as it does where reading them means waiting."""
    loop = run.loop(batches, **limits)
    loop._on_cpu = False
    return loop


FUSED = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.AdamW(p, lr=0.05, fused=True),
}


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_optimizer_skips_on_the_device(name):
    """Without a read the update is left out: the weights of a loop without the bad turn, bit for bit."""
    ours = make(optimizer=FUSED[name], nonfinite="skip")
    for step in on_device(ours, poisoned(bad=[9]), epochs=1):
        turn(ours, step)
    plain = make(optimizer=FUSED[name])
    for step in plain.loop(poisoned(), epochs=1):
        if step.index != 2:
            turn(plain, step)
    assert equal(weights(ours), weights(plain))
    assert ours.totals["nonfinite_skipped"] == 1


def test_a_fused_optimizer_stops_at_the_next_visit():
    """With "stop" the error comes at the host's next visit, and names the turn."""
    run = make(optimizer=FUSED["adam"])
    with pytest.raises(
        NonFiniteError, match="turn 3 were not finite; the optimizer has not stepped"
    ):
        for step in on_device(run, poisoned(bad=[9]), epochs=3):
            turn(run, step)
    assert is_finite(weights(run))


def test_others_look_once_an_update():
    """An optimizer without found_inf is not stepped: one read decides."""
    run = make()
    with pytest.raises(NonFiniteError, match="optimizer has not stepped"):
        for step in on_device(run, poisoned(bad=[9]), epochs=1):
            before = weights(run)
            turn(run, step)
    assert equal(weights(run), before)


def test_looking_seldom_goes_back(tmp_path):
    """An update that was done on nan is found at the next look, and undone by the newest checkpoint."""
    run = make(
        tmp_path / "run", nonfinite="rewind", nonfinite_every=4,
        checkpoint=lw.Checkpoint(every_steps=2),
    )  # fmt: skip
    for step in on_device(run, poisoned(bad=[9], samples=48), epochs=1):
        turn(run, step)
    run.close()
    assert is_finite(weights(run))
    assert run.totals["nonfinite_rewinds"] == 1


def test_looking_seldom_never_saves_it(tmp_path):
    """Before a save what was not looked at is looked at: nothing that is not finite is saved."""
    run = make(tmp_path / "run", nonfinite_every=1000, checkpoint=EVERY)
    with pytest.raises(NonFiniteError, match="the optimizer has stepped on it"):
        for step in on_device(run, poisoned(bad=[9]), epochs=1):
            turn(run, step)
    run.close()
    again = make(tmp_path / "run", checkpoint=EVERY, resume="always")
    assert is_finite(list(again.saved_state()["models"]["model"].values()))


def test_a_loss_that_is_not_finite_with_finite_gradients():
    """An infinite constant in the loss has finite gradients, and is not stepped on either."""
    run = make()
    before = weights(run)
    with pytest.raises(NonFiniteError, match="the loss of turn 1"):
        for step in on_device(run, loader(), epochs=1):
            loss = run.model(step.batch[0]).mean()
            step.backward(loss + float("inf"))
            step.update()
    assert equal(weights(run), before)


# -- the hook on the model --------------------------------------------------------------------------


def test_the_models_hook_is_gone_after_the_loop():
    """While a loop runs there is one hook on the root module; afterwards none."""
    run = make(model=Roots())
    for step in run.loop(loader(), epochs=1):
        assert [len(m._forward_hooks) for m in run.model.modules()] == [1, 0, 0, 0, 0, 0, 0]
        turn(run, step)
    assert all(not m._forward_hooks for m in run.model.modules())


def test_a_model_can_be_copied_and_pickled_inside_the_loop(tmp_path):
    """A deep copy and a pickle hold a function that does nothing, readable without Loopwright."""
    run = make(model=nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)))
    for step in run.loop(loader(), epochs=1):
        twin = copy.deepcopy(run.model)
        file = io.BytesIO()
        torch.save(run.model, file)
        turn(run, step)
    (tmp_path / "model.pt").write_bytes(file.getvalue())
    assert twin(torch.ones(1, 3)).shape == (1, 1)
    code = (
        "import sys, torch; sys.modules['loopwright'] = None;"
        "m = torch.load(sys.argv[1], weights_only=False); print(m(torch.ones(1, 3)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "torch.Size([1, 1])\n", done.stderr


def test_a_compiled_model_has_no_hook():
    """A compiled model would take the hook into its graph: it has none."""
    run = make(model=network(), compile={"backend": "eager"})
    for step in run.loop(loader(), epochs=1):
        assert not run.model._forward_hooks
        turn(run, step)
    run.close()


def test_outputs_of_an_inference_are_noted_too():
    """A model that hands on a tensor made under inference mode, which has no version, trains."""
    with torch.inference_mode():
        seen = torch.ones(4, 3)
    run = make(model={"net": nn.Linear(3, 1), "handed on": nn.Identity()})
    for step in run.loop(loader(), epochs=1):
        x, y = step.batch
        kept = run.model["handed on"](seen)
        step.backward(nn.functional.mse_loss(run.model["net"](x + kept), y))
        step.update()
    assert run.active is None


def test_an_output_that_was_written_to_still_names_its_module():
    """What the body has done to the output in place is not taken for another output."""
    run = make(model=Roots())
    with pytest.raises(NonFiniteError) as caught:
        for step in run.loop(loader(shuffle=False), epochs=1):
            run.model.power.big = step.index == 3
            x, y = step.batch
            out = run.model(x)
            if run.model.power.big:
                with torch.no_grad():
                    out.copy_(torch.tensor([float("inf"), float("-inf")] * 2)[:, None])
            step.backward(nn.functional.mse_loss(out, y))
            step.update()
    assert "the first is in the output of power (Power)" in caught.value.what
