"""The EMA of a BatchNorm model, against the recursion in float64, through a run."""

from __future__ import annotations

import pytest
import torch
from material import Net, equal, prepared, quiet_run, state, tensors, train_loader, worst
from torch import nn

import loopwright as lw

CRITERION = nn.CrossEntropyLoss()


def sgd(parameters):
    """Return SGD that moves the weights visibly."""
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.9)


def train(ema, *, epochs=2, before_update=None, accumulate=1):
    """Train in float64; returns the run and copies of the state after each update."""
    model, optimizer, _ = prepared(sgd, model=lambda: Net().double())
    batches = [(x.double(), y) for x, y in train_loader()]
    run = quiet_run(model=model, optimizer=optimizer, ema=ema, accumulate=accumulate)
    states = []
    for step in run.loop(batches, epochs=epochs):
        inputs, labels = step.batch
        step.backward(CRITERION(run.model(inputs), labels))
        if step.index == 0 and before_update is not None:
            before_update(run, inputs)
        if step.update():
            states.append(state(model))
    return run, states


def recursion(states, decay):
    """Return the average that begins with the first state; whole numbers are copied."""
    average = dict(states[0])
    for now in states[1:]:
        for name, value in now.items():
            floating = value.is_floating_point()
            average[name] = decay * average[name] + (1 - decay) * value if floating else value
    return average


@pytest.mark.parametrize("accumulate", [1, 2])
def test_row_08_average_of_buffers(accumulate):
    """Weights and running statistics follow the recursion to 1e-12; the batch counter is copied."""
    run, states = train(lw.EMA(0.7), accumulate=accumulate)
    expected = recursion(states, 0.7)
    with run.averaged():
        found = state(run.model)
    assert len(states) == (10 if accumulate == 1 else 6)
    assert (
        worst(
            {k: v.double() for k, v in found.items()}, {k: v.double() for k, v in expected.items()}
        )
        < 1e-12
    )
    counter = found["layers.1.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert int(counter) == 10
    raw = states[-1]["layers.1.running_mean"]
    assert (found["layers.1.running_mean"] - raw).abs().max() > 1e-3, "raw statistics would be seen"
    another = recursion(states, 0.75)
    assert worst([found["layers.0.weight"]], [another["layers.0.weight"]]) > 1e-4


def test_row_08_first_swap():
    """An evaluation before the first update uses the raw weights, and leaves them there."""
    seen = []

    def look(run, inputs):
        before = state(run.model)
        seen.extend(run.model(batch) for batch in run.evaluate([inputs]))
        assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
        run.model.eval()
        with torch.no_grad():
            seen.append(run.model(inputs))
        run.model.train()

    train(0.7, before_update=look)
    assert torch.equal(*seen)


def test_training_with_an_average_has_the_bits_of_training_without():
    """Averaging and swapping change nothing in training."""
    plain, _ = train(None)
    averaged, _ = train(0.9)
    assert equal(plain.model, averaged.model)


def test_evaluation_swaps_in_the_average_and_back():
    """``run.evaluate`` computes with the averaged weights; the raw ones are back afterwards."""
    run, states = train(0.7)
    inputs = tensors()[0].double()
    expected = Net().double()
    expected.load_state_dict(recursion(states, 0.7))
    expected.eval()
    for batch in run.evaluate([inputs]):
        found = run.model(batch)
    with torch.no_grad():
        assert worst([found], [expected(inputs)]) < 1e-12
    assert all(
        torch.equal(value, states[-1][name]) for name, value in run.model.state_dict().items()
    )


def test_two_optimizers_of_one_update_average_once():
    """Two optimizers that step in one update make one average, of the weights after both."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)).double()
    run = quiet_run(
        model=model,
        optimizer={
            "first": torch.optim.SGD(model[0].parameters(), lr=0.1),
            "second": torch.optim.SGD(model[1].parameters(), lr=0.1),
        },
        ema=0.5,
    )
    states = []
    for step in run.loop([torch.randn(3, 4).double() for _ in range(4)], epochs=1):
        step.backward((run.model(step.batch) - 1).square().mean())
        step.update()
        states.append(state(model))
    assert run.ema.averages == 4
    with run.averaged():
        assert worst(state(model), recursion(states, 0.5)) < 1e-12
