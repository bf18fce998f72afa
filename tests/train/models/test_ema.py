"""The exponential moving average of weights."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

from loopwright.errors import CheckpointError, StateError, UsageError
from loopwright.train.models.ema import EMA


class Net(nn.Module):
    """BatchNorm (float and int buffers), a tied weight, a mask with -inf, a constant."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer(
            "mask", torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf)
        )
        self.register_buffer("table", torch.ones(2), persistent=False)
        self.to(dtype)

    def forward(self, x):
        return self.tied(self.norm(self.first(x)))


def train(model: nn.Module, updates: int, ema: EMA | None = None, seed: int = 0):
    """Train on random numbers; yields after every update, once the average has seen it."""
    data = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    dtype = next(model.parameters()).dtype
    for _ in range(updates):
        x = torch.randn(8, 3, generator=data, dtype=torch.float64).to(dtype)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if ema:
            ema.update()
        yield


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy what the model saves."""
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_average_is_the_recursion_in_float64(every, warmup):
    """Weights and running statistics follow the recursion; counters and masks are copied."""
    torch.manual_seed(0)
    model = Net()
    ema = EMA(0.9, every=every, warmup=warmup)
    ema.attach(model)
    expected = None
    for number, _ in enumerate(train(model, 12, ema), 1):
        if number % every:
            continue
        now, count = tensors(model), number // every - 1
        decay = min(0.9, (1 + count) / (10 + count)) if warmup else 0.9
        if expected is None:
            expected = now
        for name, value in now.items():
            averaged = value.is_floating_point() and name != "mask"
            expected[name] = decay * expected[name] + (1 - decay) * value if averaged else value
    with ema.swapped():
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-13, atol=1e-15)
    assert not torch.equal(model.norm.running_mean, expected["norm.running_mean"])


def test_before_the_first_update_the_raw_weights_are_used():
    """Swapped in before there is an average, the weights stay as they are, loaded ones too."""
    model = Net()
    ema = EMA()
    ema.attach(model)
    model.first.weight.data.fill_(7.0)
    assert not ema.started
    with ema.swapped():
        assert (model.first.weight == 7).all()


def test_swapping_copies_nothing_and_gives_back_the_same_memory():
    """The Parameter objects stay; inside they point to the average, afterwards to where they did."""
    model = Net()
    ema = EMA(0.5)
    ema.attach(model)
    list(train(model, 3, ema))
    before = {name: (t, t.data_ptr(), t.detach().clone()) for name, t in model.named_parameters()}
    with contextlib.suppress(KeyError), ema.swapped():
        inside = {name: t.data_ptr() for name, t in model.named_parameters()}
        raise KeyError
    average = {t.data_ptr() for t in ema.state_dict()["average"].values()}
    for name, tensor in model.named_parameters():
        old, pointer, value = before[name]
        assert tensor is old
        assert tensor.data_ptr() == pointer
        assert torch.equal(tensor, value)
        assert inside[name] in average


def test_shared_weights_are_averaged_once():
    """A tied weight is one average, and stays tied while it is swapped in."""
    model = Net()
    ema = EMA()
    ema.attach(model)
    list(train(model, 2, ema))
    names = ema.state_dict()["average"]
    assert "model.first.weight" in names
    assert "model.tied.weight" not in names
    with ema.swapped():
        assert model.tied.weight is model.first.weight


def test_non_persistent_buffers_and_several_models():
    """Constants that are not saved are left alone; models are kept apart by their names."""
    models = {"a": Net(), "b": Net()}
    ema = EMA()
    ema.attach(models)
    ema.update()
    names = ema.state_dict()["average"]
    assert "a.norm.running_var" in names
    assert "b.norm.running_var" in names
    assert not any("table" in name for name in names)


def test_training_goes_on_bit_for_bit():
    """Averaging and swapping between updates does not change what is trained."""
    torch.manual_seed(0)
    plain = Net(torch.float32)
    watched = copy.deepcopy(plain)
    ema = EMA(0.9)
    ema.attach(watched)
    list(train(plain, 5))
    for _ in train(watched, 5, ema):
        with ema.swapped(), torch.no_grad():
            watched.eval()(torch.ones(2, 3))
        watched.train()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True)
    )


def test_half_precision_is_averaged_in_float32():
    """Steps far below bfloat16's precision move the average; swapped in, weights keep their type."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    ema = EMA(0.999)
    ema.attach(model)
    model.weight.data.fill_(1.0)
    ema.update()
    model.weight.data.fill_(2.0)
    for _ in range(100):
        ema.update()
    average = ema.state_dict()["average"]["model.weight"]
    assert average.dtype == torch.float32
    assert average.item() == pytest.approx(2 - 0.999**100, rel=1e-5)
    with ema.swapped():
        assert model.weight.dtype == torch.bfloat16
        assert model.weight.item() == pytest.approx(average.item(), rel=2**-8)
    assert model.weight.item() == 2.0


def test_autocast_sees_the_swapped_weights():
    """Inside one autocast region a forward after the swap uses the average, and after it the weights."""
    model = nn.Linear(2, 1, bias=False)
    ema = EMA(0.0)
    ema.attach(model)
    model.weight.data.fill_(1.0)
    ema.update()
    model.weight.data.fill_(3.0)
    x = torch.ones(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).item() == 6.0
        with ema.swapped():
            assert model(x).item() == 2.0
        assert model(x).item() == 6.0


def test_frozen_parameters_join_when_they_train():
    """What is frozen costs no memory, and once unfrozen is averaged from there."""
    model = Net()
    model.norm.requires_grad_(False)
    ema = EMA(0.5)
    ema.attach(model)
    ema.update()
    assert "model.norm.weight" not in ema.state_dict()["average"]
    model.norm.requires_grad_(True)
    ema.update()
    model.norm.weight.data += 2
    ema.update()
    with ema.swapped():
        assert torch.equal(model.norm.weight, torch.full((3,), 2.0, dtype=torch.float64))


def test_resume_is_exact():
    """State moved to another object mid-way ends at the same bits as without the interruption."""
    torch.manual_seed(0)
    model = Net()
    ema = EMA(0.9, every=2)
    ema.attach(model)
    for number, _ in enumerate(train(model, 9, ema), 1):
        if number == 5:
            state = copy.deepcopy(ema.state_dict())
            resumed = EMA(0.9, every=2)
            resumed.attach(model)
            resumed.load_state_dict(state)
        elif number > 5:
            resumed.update()
    for name, value in ema.state_dict()["average"].items():
        assert torch.equal(value, resumed.state_dict()["average"][name])
    assert (resumed.updates, resumed.averages) == (9, 4)


def test_a_foreign_state_is_refused():
    """An average of another shape or name is refused with both."""
    ema, other = EMA(), EMA()
    ema.attach(nn.Linear(2, 2))
    ema.update()
    other.attach(nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match=r"model.weight.*\(2, 2\).*\(2, 3\)"):
        other.load_state_dict(ema.state_dict())
    other.attach(nn.ReLU())
    with pytest.raises(CheckpointError, match="not in the model"):
        other.load_state_dict(ema.state_dict())


def test_protocol_errors():
    """Settings that cannot be, updates without a model or while swapped: errors, not numbers."""
    with pytest.raises(UsageError, match="decay"):
        EMA(1.5)
    with pytest.raises(UsageError, match="every"):
        EMA(every=0)
    ema = EMA()
    with pytest.raises(StateError, match="nothing"):
        ema.update()
    ema.attach(nn.Linear(1, 1))
    ema.update()
    with ema.swapped(), ema.swapped(), pytest.raises(StateError, match="swapped in"):
        ema.update()
    ema.update()
    assert repr(ema) == "EMA(decay=0.999, every=1, warmup=False)"
