"""``run.evaluate``: whatever ends it, training goes on as if it had not been."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from small import dataset, equal, loader, make, turn, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import loopwright as lw
from loopwright.errors import DataError, UsageError


def model():
    """A model whose parts have modes that somebody set."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = nn.Sequential(
            nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6)),  # a frozen backbone
            nn.ModuleDict({"one": nn.Dropout(0.5), "two": nn.Sequential(nn.BatchNorm1d(6))}),
            nn.Linear(6, 1),
        )
    net.forward = lambda x: net[2](net[1]["two"](net[1]["one"](net[0](x))))
    net[0].eval().requires_grad_(False)
    net[1]["two"].eval()
    return net


def modes(net) -> list[bool]:
    """The mode of every module, in order."""
    return [module.training for module in net.modules()]


def whole(run, batches):
    for _ in run.evaluate(batches):
        assert not any(modes(run.model))


def broken_off(run, batches):
    for _ in run.evaluate(batches):
        break


def raised(run, batches):
    with pytest.raises(KeyError):
        for _ in run.evaluate(batches):
            raise KeyError


def returned(run, batches):
    def first():
        for x, _ in run.evaluate(batches):
            return run.model(x)
        return None

    assert not first().requires_grad


def through_tqdm(run, batches):
    for i, _ in enumerate(tqdm(run.evaluate(batches), disable=None)):
        if i == 1:
            break


def with_grad_inside(run, batches):
    for x, _ in run.evaluate(batches):
        with torch.enable_grad():
            run.model(x).sum().backward()
            break
    for p in run.model.parameters():
        p.grad = None


def loader_fails(run, batches):
    def failing():
        yield next(iter(batches))
        raise LookupError

    with pytest.raises(LookupError):
        for _ in run.evaluate(failing):
            pass


def mode_changed_inside(run, batches):
    for _ in run.evaluate(batches):
        run.model.train()


ENDINGS = [
    whole,
    broken_off,
    raised,
    returned,
    through_tqdm,
    with_grad_inside,
    loader_fails,
    mode_changed_inside,
]


@pytest.mark.parametrize("end", ENDINGS)
def test_modes_are_restored(end):
    """Every module has exactly the mode that it had, whatever ended the evaluation."""
    run = make(model=model())
    before = modes(run.model)
    assert True in before
    assert False in before
    end(run, loader())
    assert modes(run.model) == before


@pytest.mark.parametrize("end", ENDINGS)
def test_grad_mode_is_restored(end):
    """Gradients are recorded again afterwards; where they were not before, they are not."""
    run = make(model=model())
    end(run, loader())
    assert torch.is_grad_enabled()
    with torch.no_grad():
        end(run, loader())
        assert not torch.is_grad_enabled()


def test_no_gradients_inside():
    """Nothing inside records a graph."""
    run = make()
    for x, _ in run.evaluate(loader()):
        assert not run.model(x).requires_grad


class Drawing(Dataset):
    """Draws from every generator of the process, also where nothing is shuffled."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        x = torch.rand(3) + random.random() + np.random.rand()  # noqa: NPY002
        return x.float(), torch.ones(1)


# A function that makes the iterator hides its loader, and so that loader's own generator.
@pytest.mark.parametrize("end", [end for end in ENDINGS if end is not loader_fails])
def test_generators_are_restored(end):
    """Python's, numpy's and torch's generators are where they were, and so is the loader's own."""
    own = torch.Generator().manual_seed(1)
    batches = DataLoader(Drawing(), batch_size=2, shuffle=True, generator=own)
    run = make(model=model())
    lw.seed(0)
    state = own.get_state()
    expected = (random.random(), np.random.rand(), torch.rand(1))  # noqa: NPY002
    lw.seed(0)
    end(run, batches)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002
    assert torch.equal(own.get_state(), state)


def test_workers():
    """With workers nothing is drawn from the process's generators either, and none is left running."""
    import multiprocessing

    others = set(multiprocessing.active_children())  # another test's, which may still be ending
    run = make()
    lw.seed(0)
    before = torch.get_rng_state()
    assert sum(len(y) for _, y in run.evaluate(loader(num_workers=2))) == 24
    broken_off(run, loader(num_workers=2))
    assert torch.equal(before, torch.get_rng_state())
    assert set(multiprocessing.active_children()) <= others


def trained(evaluate_at, batches):
    """The weights after two epochs with dropout, BatchNorm and shuffling."""
    lw.seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))
    run = make(model=net)
    own = torch.Generator().manual_seed(3)
    training = DataLoader(Drawing(), batch_size=2, shuffle=True, generator=own)
    for step in run.loop(training, epochs=2):
        turn(run, step)
        if step.index in evaluate_at:
            for x, _ in run.evaluate(training if batches is None else batches):
                run.model(x)
    return [*weights(run), net[1].running_mean.clone(), torch.rand(1)]


@pytest.mark.parametrize("at", [[3], [0, 1, 2, 5], [7]])
def test_training_is_the_same(at):
    """Training is bit-equal with and without validation, mid-epoch too, and on the training loader."""
    plain = trained([], loader())
    assert equal(trained(at, loader(shuffle=True)), plain)
    assert equal(trained(at, None), plain)


def test_shared_generator_control():
    """The control: validating by hand on the same generators does change training."""
    lw.seed(0)
    run = make()
    training = DataLoader(Drawing(), batch_size=2, shuffle=True)
    plain, other = [], []
    for seen, validates in ((plain, False), (other, True)):
        lw.seed(0)
        for step in run.loop(training, epochs=2):
            seen.append(step.batch[0])
            if validates and step.ends_epoch:
                list(training)
    assert not equal(plain, other)


def test_between_backward_and_update():
    """An evaluation between backward and update leaves the gradients alone."""
    one, two = make(), make()
    for run in (one, two):
        for step in run.loop(loader(), epochs=1):
            x, y = step.batch
            step.backward(nn.functional.mse_loss(run.model(x), y))
            if run is two:
                whole(run, loader())
            step.update()
    assert equal(weights(one), weights(two))


def test_inside_an_evaluation():
    """An evaluation inside an evaluation comes back to eval mode without gradients."""
    run = make(model=model())
    before = modes(run.model)
    for _ in run.evaluate(loader()):
        whole(run, loader())
        assert not any(modes(run.model))
        assert not torch.is_grad_enabled()
    assert modes(run.model) == before


def test_outside_a_loop():
    """An evaluation needs no loop: before the first, between two, after the last."""
    run = make()
    for _ in range(2):
        whole(run, loader())
        for step in run.loop(loader(), steps=1):
            turn(run, step)
    whole(run, loader())


def test_len():
    """len() is the loader's; an unsized one has none."""
    run = make()
    assert len(run.evaluate(loader())) == 6
    assert len(run.evaluate(dataset(), batch_size=5)) == 5
    with pytest.raises(TypeError, match="no length"):
        len(run.evaluate(lambda: iter([])))


def test_can_be_run_again():
    """One evaluation object may be iterated again and gives the same batches."""
    evaluation = make().evaluate(loader())
    assert [x.sum() for x, _ in evaluation] == [x.sum() for x, _ in evaluation]


@pytest.mark.parametrize("empty", [list, lambda: lambda: iter([])])
def test_empty(empty):
    """A loader that gives no batch is an error: nothing would have been validated."""
    with pytest.raises(DataError) as caught:
        list(make().evaluate(empty()))
    assert caught.value.slug == "empty-loader"


def test_closed():
    """A closed run evaluates nothing."""
    run = make()
    run.close()
    with pytest.raises(UsageError) as caught:
        run.evaluate(loader())
    assert caught.value.slug == "run-closed"


def test_several_models():
    """Every model of the run is in eval mode inside, and in its own mode afterwards."""
    run = make(
        model={"one": nn.Dropout(), "two": nn.Linear(3, 1)},
        optimizer={"two": lambda params: torch.optim.SGD(params, lr=0.1)},
    )
    run.model["one"].eval()
    for _ in run.evaluate(loader()):
        assert not run.model["one"].training
        assert not run.model["two"].training
    assert not run.model["one"].training
    assert run.model["two"].training


def test_compiled_modes():
    """Modes are set through module.training, so a forward hook of the user's sees the right one."""
    run = make()
    seen = []
    run.model.register_forward_hook(lambda module, *_: seen.append(module.training))
    for x, _ in run.evaluate(loader()):
        run.model(x)
    run.model(x)
    assert seen == [False] * 6 + [True]


def test_frozen_batch_norm_stays_frozen():
    """A BatchNorm that the user put in eval collects nothing, with evaluations in between."""
    net = model()
    before = net[0][1].running_mean.clone()
    run = make(model=net)
    for step in run.loop(loader(), epochs=2):
        turn(run, step)
        if step.ends_epoch:
            whole(run, loader())
    assert torch.equal(net[0][1].running_mean, before)


def test_averaged_weights_inside():
    """With an EMA the average is in the model inside, and the raw weights are back, also after break."""
    run = make(ema=lw.EMA(0.5, warmup=False))
    for step in run.loop(loader(), epochs=1):
        turn(run, step)
        raw = weights(run)
        for end in (broken_off, raised, whole):
            inside = []
            for _ in run.evaluate(loader()):
                inside = weights(run)
                break
            end(run, loader())
            assert equal(weights(run), raw)
            if step.index > 1:
                assert not equal(inside, raw)
