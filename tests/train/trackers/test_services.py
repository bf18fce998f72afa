"""W&B, MLflow and trackio, against stand-ins with their signatures."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from loopwright.errors import UsageError
from loopwright.train.trackers import NAMES, resolve


@pytest.fixture
def installed(monkeypatch):
    """Let a package seem installed."""

    def install(name, module):
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: object())

    return install


def fake_wandb(calls):
    """Return wandb's init, and a run's log, define_metric and finish."""

    class Run:
        id = "abc123"

        def log(self, data, step=None, commit=None):
            calls.append(("log", data, step))

        def define_metric(self, name, step_metric=None):
            calls.append(("define_metric", name, step_metric))

        def finish(self, exit_code=None, quiet=None):
            calls.append(("finish", exit_code))

    def init(*, project=None, dir=None, id=None, name=None, config=None, mode=None, resume=None):  # noqa: A002
        calls.append(("init", {"project": project, "dir": dir, "id": id, "name": name,
                               "config": config, "mode": mode, "resume": resume}))  # fmt: skip
        return Run()

    return SimpleNamespace(init=init)


def test_wandb(run, make_run, installed):
    """Values go out with their turn as the axis; a resumed run goes on under the same id."""
    calls = []
    installed("wandb", fake_wandb(calls))
    resolve("wandb")(run)
    assert calls == []  # nothing before the first loop
    run.train(kind="failed")
    settings = calls[0][1]
    assert (settings["name"], settings["config"]["lr"]) == ("digits", 0.1)
    assert settings["dir"] == str(run.folder)
    assert settings["id"] is None
    assert ("define_metric", "*", "turn") in calls
    logged = [call[1] for call in calls if call[0] == "log"]
    assert logged[0] == {"loss": 1.0, "lr/g": 0.1, "turn": 101}
    assert logged[-1] == {"final/test_accuracy": 0.9, "turn": 102}
    assert calls[-1] == ("finish", 1)
    calls.clear()
    from loopwright.train.trackers.wandb import wandb

    again = make_run()
    wandb(again, project="p", mode="offline")
    again.train(first=2, last=3)
    settings = calls[0][1]
    assert (settings["id"], settings["resume"]) == ("abc123", "allow")
    assert (settings["project"], settings["mode"]) == ("p", "offline")
    assert calls[-1] == ("finish", 0)


def fake_mlflow(calls):
    """Return mlflow's fluent functions."""

    def start_run(run_id=None, experiment_id=None, run_name=None):
        calls.append(("start_run", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "r1"))

    def log_params(params, synchronous=None, run_id=None):
        calls.append(("log_params", params, run_id))

    def log_metrics(metrics, step=None, synchronous=None, run_id=None):
        calls.append(("log_metrics", metrics, step, run_id))

    return SimpleNamespace(
        start_run=start_run,
        log_params=log_params,
        log_metrics=log_metrics,
        set_experiment=lambda name: calls.append(("set_experiment", name)),
        end_run=lambda status="FINISHED": calls.append(("end_run", status)),
    )


def test_mlflow(run, make_run, installed):
    """Parameters once and in the portions that MLflow takes, metrics by turn, the outcome as status."""
    calls = []
    installed("mlflow", fake_mlflow(calls))
    run.settings = {f"setting{i}": "x" * 600 for i in range(150)}
    resolve("mlflow")(run)
    run.train(kind="interrupted")
    assert calls[0] == ("start_run", None, "digits")
    params = [call[1] for call in calls if call[0] == "log_params"]
    assert [len(each) for each in params] == [100, 50]
    assert max(len(value) for each in params for value in each.values()) == 500
    metrics = [call[1:] for call in calls if call[0] == "log_metrics"]
    assert metrics[0] == ({"loss": 1.0, "lr/g": 0.1}, 101, "r1")
    assert calls[-1] == ("end_run", "KILLED")
    calls.clear()
    from loopwright.train.trackers.mlflow import mlflow

    again = make_run()
    mlflow(again, experiment="e")
    again.train(first=2, last=3, kind="failed")
    assert calls[:2] == [("set_experiment", "e"), ("start_run", "r1", None)]
    assert not [call for call in calls if call[0] == "log_params"]
    assert calls[-1] == ("end_run", "FAILED")


def fake_trackio(calls):
    """Return trackio's init, and a run's log and finish."""

    class Run:
        def __init__(self, name):
            self.name = name

        def log(self, metrics, step=None):
            calls.append(("log", metrics, step))

        def finish(self):
            calls.append(("finish",))

    def init(project, name=None, group=None, config=None, resume="never", embed=True):
        calls.append(("init", project, name, group, config, resume, embed))
        return Run(name)

    return SimpleNamespace(init=init)


def test_trackio(run, make_run, installed):
    """Values go out by turn, nothing opens a page, and a resumed run goes on under its name."""
    calls = []
    installed("trackio", fake_trackio(calls))
    resolve("trackio")(run)
    run.train()
    assert calls[0] == ("init", "loopwright", "digits", None, run.settings, "never", False)
    assert calls[1] == ("log", {"loss": 1.0, "lr/g": 0.1}, 101)
    assert calls[-1] == ("finish",)
    calls.clear()
    from loopwright.train.trackers.trackio import trackio

    again = make_run()
    trackio(again, project="p", group="g")
    again.train(first=2, last=3)
    assert calls[0] == ("init", "p", "digits", "g", again.settings, "allow", False)


def test_runs_without_a_folder(make_run, installed):
    """Where nothing is written there is nothing to resume, and the trackers work."""
    for name, fake in (("wandb", fake_wandb), ("mlflow", fake_mlflow), ("trackio", fake_trackio)):
        calls = []
        installed(name, fake(calls))
        run = make_run(None)
        resolve(name)(run)
        run.train()
        assert len(calls) >= 5


def test_trackers_share_one_small_file(run, installed):
    """Each service's own name of the run stands in one file of the run's folder."""
    for name, fake in (("wandb", fake_wandb), ("mlflow", fake_mlflow)):
        installed(name, fake([]))
        resolve(name)(run)
    run.train()
    assert json.loads((run.folder / "trackers.json").read_text()) == {
        "wandb": "abc123",
        "mlflow": "r1",
    }


def test_a_run_that_never_began_opens_nothing(run, installed):
    """Closing a run without a loop neither opens nor closes a tracker."""
    calls = []
    installed("wandb", fake_wandb(calls))
    resolve("wandb")(run)
    run.outcome.kind = "failed"
    run.fire("close")
    assert calls == []


def test_functions_are_taken_as_they_are():
    """A tracker of one's own is handed through."""
    assert resolve(print) is print


def test_mistaken_names_and_missing_packages(monkeypatch):
    """An unknown name gets the nearest; a missing package the line that installs it."""
    with pytest.raises(UsageError, match="no tracker named 'tensorbord'") as caught:
        resolve("tensorbord")
    assert caught.value.hint == "did you mean 'tensorboard'?"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in NAMES:
        with pytest.raises(UsageError) as caught:
            resolve(name)
        assert caught.value.hint == f"pip install 'loopwright[{name}]'"
