"""``loopwright evaluate``: the run's own numbers again."""

from __future__ import annotations

import json


def values(result):
    """What --json printed."""
    assert result.rc == 0, result.err
    return json.loads(result.out)


def test_the_runs_numbers(run_cli, trained):
    """Validation and test values are those that the run itself recorded, bit for bit."""
    recorded = json.loads((trained / "outcome.json").read_text())
    valid = values(run_cli("evaluate", trained, "--json"))
    assert valid["weights"] == "best"
    best = recorded["best"]["valid_accuracy"]["value"]
    assert valid["values"]["valid_accuracy"] == best
    test = values(run_cli("evaluate", trained, "--split", "test", "--json"))
    for name, value in test["values"].items():
        assert value == recorded["totals"][name]


def test_which(run_cli, trained):
    """Final and averaged weights are the same with an EMA."""
    final = values(run_cli("evaluate", trained, "--which", "final", "--json"))
    averaged = values(run_cli("evaluate", trained, "--which", "ema", "--json"))
    assert final["values"] == averaged["values"]


def test_table(run_cli, trained):
    """Without --json a table is printed."""
    rc, out, _ = run_cli("evaluate", trained)
    assert rc == 0
    assert "best weights on valid data" in out
    assert "valid_accuracy" in out
    assert "%" in out


def test_run_of_a_script(run_cli, run_program, tmp_path):
    """The run of a script can't be rebuilt, and says what to do."""
    (tmp_path / "script.py").write_text(
        "import torch, loopwright as lw\n"
        "model = torch.nn.Linear(2, 1)\n"
        "lw.fit(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.MSELoss(),\n"
        "       [(torch.zeros(2, 2), torch.zeros(2, 1))], epochs=1, out='run')\n"
    )
    assert run_program(["script.py"], cwd=tmp_path).rc == 0
    rc, _, err = run_cli("evaluate", "run", cwd=tmp_path)
    assert rc == 2
    assert "made by a script" in err


def test_recipe_that_has_gone(run_cli, tmp_path):
    """A run whose recipe's file has gone names the file."""
    assert run_cli("new", "mine.py", cwd=tmp_path).rc == 0
    assert run_cli("train", "mine.py", "--steps", "2", "--quiet", cwd=tmp_path).rc == 0
    (tmp_path / "mine.py").rename(tmp_path / "moved.py")
    rc, _, err = run_cli("evaluate", "runs/mine/1", cwd=tmp_path)
    assert rc == 2
    assert "mine.py" in err
    assert "put it back" in err
