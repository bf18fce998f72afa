"""``loopwright export``: what is written computes what the model computes, for any batch size."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from loopwright.cli import exporting
from loopwright.cli.output import whole
from loopwright.cli.rebuild import rebuild
from loopwright.errors import LoopwrightError, UsageError


@pytest.fixture(scope="module")
def rebuilt(trained):
    """Give the trained run's model."""
    found = rebuild(trained)
    found.job.model.eval()
    return found


@pytest.fixture(scope="module")
def shape(rebuilt):
    """Give the shape of one input."""
    return next(iter(rebuilt.job.train_loader))[0].shape[1:]


def difference(result):
    """The largest difference that the command printed."""
    assert result.rc == 0, result.err
    return float(re.search(r"largest difference from the model (\S+)", result.out)[1])


def test_safetensors(run_cli, trained, rebuilt, tmp_path):
    """The weights, under their names, readable by safetensors alone."""
    assert difference(run_cli("export", trained, cwd=tmp_path)) == 0
    tensors = load_file(tmp_path / "digits.safetensors")
    state = rebuilt.job.model.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torch_export(run_cli, trained, rebuilt, shape, tmp_path):
    """The exported program computes the model's outputs for one and for many samples."""
    words = ["export", trained, "--format", "torch-export", "--to", "m.pt2"]
    assert difference(run_cli(*words, cwd=tmp_path)) < 1e-5
    program = torch.export.load(tmp_path / "m.pt2").module()
    for size in (1, 2, 33):
        inputs = torch.rand(size, *shape)
        torch.testing.assert_close(program(inputs), rebuilt.job.model(inputs))


def test_onnx(run_cli, trained, rebuilt, shape, tmp_path):
    """The ONNX file computes the model's outputs for one and for many samples, in one file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    assert difference(run_cli("export", trained, "--format", "onnx", cwd=tmp_path)) < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["digits.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "digits.onnx", providers=["CPUExecutionProvider"]
    )
    for size in (1, 2, 33):
        inputs = np.random.default_rng(0).random((size, *shape), dtype=np.float32)
        (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
        expected = rebuilt.job.model(torch.from_numpy(inputs)).detach().numpy()
        np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_run_of_a_script(run_cli, run_program, tmp_path):
    """--model names the model of a script's run, and --shape its input."""
    (tmp_path / "script.py").write_text(
        "import torch, loopwright as lw\n\n"
        "def make():\n    return torch.nn.Linear(2, 1)\n\n"
        'if __name__ == "__main__":\n'
        "    model = make()\n"
        "    lw.fit(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.MSELoss(),\n"
        "           [(torch.zeros(2, 2), torch.zeros(2, 1))], epochs=1, out='run')\n"
    )
    assert run_program(["script.py"], cwd=tmp_path).rc == 0
    words = ["export", "run", "--model", "script:make"]
    assert difference(run_cli(*words, cwd=tmp_path)) == 0
    assert (tmp_path / "run.safetensors").exists()
    rc, _, err = run_cli(*words, "--format", "torch-export", cwd=tmp_path)
    assert rc == 2
    assert "--shape" in err
    words += ["--format", "torch-export", "--shape", "2"]
    assert difference(run_cli(*words, cwd=tmp_path)) < 1e-6


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("script", "--model takes module:function"),
        ("none:make", "there is no module 'none'"),
        ("json:lods", "did you mean 'loads'?"),
        ("os:getcwd", "gives str, not a torch.nn.Module"),
    ],
)
def test_bad_model(run_cli, trained, tmp_path, name, words):
    """A --model that is none is refused."""
    rc, _, err = run_cli("export", trained, "--model", name, cwd=tmp_path)
    assert rc == 2
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_without_onnx(monkeypatch, tmp_path):
    """Without the extra, ONNX says what to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match="onnx") as caught:
        exporting.write_onnx(torch.nn.Linear(2, 1), torch.zeros(2, 2), tmp_path / "m.onnx")
    assert caught.value.hint == 'pip install "loopwright[onnx]"'


class Counting(torch.nn.Module):
    """A model that computes something else at each call."""

    def forward(self, inputs):
        return inputs + torch.rand(())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_difference_is_refused(tmp_path):
    """An export that computes something else is refused, and the old file stays."""
    path = tmp_path / "m.pt2"
    path.write_text("old")
    with pytest.raises(LoopwrightError, match="differs from the run's"), whole(path) as new:
        exporting.write_torch_export(Counting(), torch.zeros(4, 2), new)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["m.pt2"]


class Branching(torch.nn.Module):
    """A model that torch.export cannot trace."""

    def forward(self, inputs):
        return inputs if inputs.sum() > 0 else -inputs


def test_cannot_be_exported(tmp_path):
    """A model that can't be traced is one error with torch's reason."""
    with pytest.raises(LoopwrightError, match="the model cannot be exported"):
        exporting.write_torch_export(Branching(), torch.ones(4, 2), tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []
