"""Loading weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from loopwright.checkpoint.weights import save_weights
from loopwright.errors import CheckpointError, LoopwrightWarning
from loopwright.train.models.weights import load_weights


def model(value: float = 0.0, width: int = 2) -> nn.Module:
    """Return a small model filled with a number."""
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, width))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


def first(net: nn.Module) -> float:
    """Return the model's first number."""
    return next(net.parameters()).flatten()[0].item()


def test_a_file_is_loaded_in_place(tmp_path):
    """Values are copied into the model's own tensors, in their type."""
    path = tmp_path / "weights.safetensors"
    save_weights(path, model(2.0).state_dict())
    net = model().double()
    before = list(net.parameters())
    found = load_weights(path, net)
    assert found.complete
    assert len(found.loaded) == 9
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert (first(net), next(net.parameters()).dtype) == (2.0, torch.float64)


@pytest.mark.parametrize(
    ("which", "value"), [("final", 1.0), ("best", 2.0), ("raw", 3.0), ("ema", 1.0)]
)
def test_a_run_with_an_average(tmp_path, which, value):
    """Of a run with EMA, final and ema are the averaged weights, raw the trained ones."""
    for number, name in enumerate(("final", "best", "raw"), 1):
        save_weights(tmp_path / f"{name}.safetensors", model(float(number)).state_dict())
    net = model()
    load_weights(tmp_path, net, which=which)
    assert first(net) == value


def test_a_run_without_an_average(tmp_path):
    """Without an EMA raw is final, ema is an error, and a missing best says what there is."""
    with pytest.raises(CheckpointError, match="no weights yet"):
        load_weights(tmp_path, model())
    save_weights(tmp_path / "final.safetensors", model(1.0).state_dict())
    net = model()
    load_weights(str(tmp_path), net, which="raw")
    assert first(net) == 1.0
    with pytest.raises(CheckpointError, match="no EMA"):
        load_weights(tmp_path, net, which="ema")
    with pytest.raises(CheckpointError, match=r"no best\.safetensors; it has final\.safetensors"):
        load_weights(tmp_path, net, which="best")


def misfit(tmp_path):
    """Write weights with a name too many, one too few and another shape."""
    state = model(5.0, width=7).state_dict()
    del state["0.bias"]
    state["extra"] = torch.ones(2)
    path = tmp_path / "weights.safetensors"
    save_weights(path, state)
    return path


def test_what_does_not_fit_is_a_table(tmp_path):
    """Strict loading refuses with every missing, unexpected and differently shaped name."""
    net = model()
    with pytest.raises(CheckpointError) as caught:
        load_weights(misfit(tmp_path), net)
    said = str(caught.value)
    for part in (
        "6 tensors fit",
        "missing in the file (1):\n    0.bias",
        "not in the model (1):\n    extra",
        "2.weight: file (7, 4), model (2, 4)",
        "strict=False",
    ):
        assert part in said
    assert first(net) == 0.0


def test_not_strict_loads_what_fits(tmp_path):
    """With strict=False the rest keeps its values, and the table is a warning."""
    net = model()
    with pytest.warns(LoopwrightWarning, match="another shape"):
        found = load_weights(misfit(tmp_path), net, strict=False)
    assert first(net) == 5.0
    assert net[2].weight.eq(0).all()
    assert found.missing == ["0.bias"]
    assert not found.complete


def test_nothing_loaded_is_an_error(tmp_path):
    """A file of another model is refused, strict or not, and the model is unchanged."""
    path = tmp_path / "weights.safetensors"
    save_weights(path, {f"other.{i}": torch.ones(1) for i in range(30)})
    net = model()
    for strict in (True, False):
        with pytest.raises(CheckpointError, match="0 tensors fit") as caught:
            load_weights(path, net, strict=strict)
    assert "... and 18 more" in str(caught.value)
    assert first(net) == 0.0


def test_prefixes_of_wrappers_and_of_parts(tmp_path):
    """What compile or DDP put in front is no difference; one part of several can be taken."""
    path = tmp_path / "weights.safetensors"
    state = model(4.0).state_dict()
    save_weights(path, {f"module._orig_mod.{name}": value for name, value in state.items()})
    net = model()
    load_weights(path, net)
    assert first(net) == 4.0
    wrapped = nn.Module()
    wrapped.module = model()
    save_weights(path, state)
    load_weights(path, wrapped)
    assert first(wrapped) == 4.0
    save_weights(path, {f"generator.{name}": value for name, value in state.items()})
    net = model()
    load_weights(path, net, prefix="generator.")
    assert first(net) == 4.0


def test_a_shared_tensor_needs_one_name(tmp_path):
    """A file of another tool that holds a tied weight once fills both names."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    path = tmp_path / "weights.safetensors"
    save_file({"0.weight": torch.full((2, 2), 3.0)}, path)
    assert load_weights(path, net).complete
    assert net[1].weight.eq(3).all()


def test_a_pickle_is_refused(tmp_path):
    """A file that is no safetensors is refused without being run."""
    path = tmp_path / "weights.pt"
    torch.save(model().state_dict(), path)
    with pytest.raises(CheckpointError):
        load_weights(path, model())
