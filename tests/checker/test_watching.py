"""Checking in code and in tests: ``lw.watch``, ``lw.check``, the pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import loopwright as lw
from loopwright.observe.watch import Observer

SOURCE = str(Path(__file__).parents[2] / "src")
TESTS = """\
import torch

def train(clear):
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(6):
        if clear:
            optimizer.zero_grad()
        net(torch.ones(3, 2)).sum().backward()
        optimizer.step()

def test_good():
    train(True)

def test_bad():
    train(False)

def test_good_with_fixture(training_check):
    train(True)

def test_bad_with_fixture(training_check):
    train(False)

def test_nothing():
    pass
"""


def train(*, clear):
    """Six steps, with gradients cleared or not."""
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(6):
        if clear:
            optimizer.zero_grad()
        net(torch.ones(3, 2)).sum().backward()
        optimizer.step()
    return net


def test_watch():
    """The block's mistakes are in ``findings``, the report is its text, and nothing stays observed."""
    with lw.watch() as seen:
        train(clear=False)
    assert [one.rule for one in seen.findings] == ["missing-zero-grad"]
    assert "error[missing-zero-grad]" in str(seen)
    assert Observer.active is None
    with lw.watch() as seen:
        train(clear=True)
    assert seen.mistakes == []


def test_watch_passes_exceptions():
    """An exception in the block goes through, and the findings so far are there."""
    with pytest.raises(KeyError), lw.watch() as seen:
        train(clear=False)
        raise KeyError
    assert [one.rule for one in seen.mistakes] == ["missing-zero-grad"]


def test_check(capsys):
    """The decorated function returns what it returns; the report is on stderr."""
    net = lw.check()(train)(clear=False)
    assert isinstance(net, torch.nn.Linear)
    assert "error[missing-zero-grad]" in capsys.readouterr().err


def test_check_that_fails():
    """``fail_on`` raises at the place of the mistake."""
    with pytest.raises(lw.StateError, match="1 mistakes in train, the first: ") as caught:
        lw.check(fail_on="warning")(train)(clear=False)
    assert caught.value.where.startswith(__file__)
    lw.check(fail_on="warning")(train)(clear=True)


@pytest.mark.parametrize(
    ("flags", "failed"),
    [([], {"test_bad_with_fixture"}), (["--loopwright"], {"test_bad", "test_bad_with_fixture"})],
)
def test_plugin(run_program, tmp_path, flags, failed):
    """``--loopwright`` fails every test with a mistake, the fixture only its own."""
    (tmp_path / "test_training.py").write_text(TESTS)
    plugin = ["-p", "loopwright.checker.pytest_plugin", "-p", "no:cacheprovider"]
    words = ["-m", "pytest", *plugin, *flags, "-q", "-rfE", "test_training.py"]
    # Where the package is installed, its entry point would register the plugin a second time.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = run_program(words, cwd=tmp_path, env=alone)
    found = {
        line.split("::")[1].split(" ")[0]
        for line in done.out.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    }
    assert found == failed, done.out
    assert "missing-zero-grad" in done.out


def test_the_plugin_imports_nothing():
    """Importing the plugin brings neither torch nor rich."""
    code = (
        "import sys, loopwright.checker.pytest_plugin; print({'torch', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_the_fix_of_a_frozen_batch_norm_names_the_frozen_part():
    """eval() is for the part that is frozen as a whole, not for all of the model."""
    nn = torch.nn
    stem = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), nn.ReLU())
    model = nn.Sequential(stem, nn.Linear(3, 1))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    with lw.watch() as seen:
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(4, 2)).square().mean().backward()
            optimizer.step()
    assert [one.fix for one in seen.findings] == ["model[0].eval()  # after model.train()"]
    assert (
        "1 batch norm with frozen weights (BatchNorm1d) was in train mode"
        in seen.findings[0].message
    )
